/** argv → command → exit code. */
import { run } from "./cli/program.ts";

const code = await run(process.argv.slice(2));
// a command that failed may have left a socket or a timer behind: nothing waits for it
if (code === 0) process.exitCode = code;
else process.exit(code);
