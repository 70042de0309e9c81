/** argv → command → exit code. */
import { run } from "./cli/program.ts";

// who reads no further, as `varia --help | head -1`, wants nothing more
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));
const code = await run(process.argv.slice(2));
// a command that failed may have left a socket or a timer behind: nothing waits for it
if (code === 0) process.exitCode = code;
else process.exit(code);
