/**
 * The whole test suite, one suite after the other, and one closing line that counts them all:
 *
 *     bun scripts/test-all.ts [name …]     all suites, or those named
 *
 * A suite whose tool is missing is skipped with a line that says so; with CI=true a missing tool is a failure.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "..");
const EXECUTABLE = join(ROOT, "dist/varia");
const BUN = process.execPath;
const IN_CI = process.env.CI === "true";

interface Counts {
  readonly passed: number;
  readonly failed: number;
}

interface Suite {
  readonly name: string;
  /** What has to be on the machine. */
  readonly tools: readonly string[];
  readonly run: () => Promise<Counts>;
}

/** Runs a command and returns its exit code and what it printed; prints it when the command fails. */
async function command(words: readonly string[], options: { cwd?: string; env?: Record<string, string> } = {}) {
  const child = Bun.spawn([...words], {
    cwd: options.cwd ?? ROOT,
    env: { ...process.env, VARIA_EXECUTABLE: EXECUTABLE, ...options.env },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  const code = await child.exited;
  if (code !== 0) console.log(tail(`${out}\n${err}`));
  return { code, output: `${out}\n${err}` };
}

/** The last part of a long output: what failed is at its end. */
function tail(text: string): string {
  const lines = text.split("\n");
  return lines.length <= 200 ? text : lines.slice(-200).join("\n");
}

/** A command that is one test: it passes or fails as a whole. */
async function asOne(words: readonly string[]): Promise<Counts> {
  const { code } = await command(words);
  return code === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 };
}

function count(output: string, pattern: RegExp): number {
  return [...output.matchAll(pattern)].reduce((sum, match) => sum + Number(match[1]), 0);
}

/** A failed command counts as a failure even when no test says so. */
function checked(counts: Counts, code: number): Counts {
  if (code !== 0 && counts.failed === 0) return { ...counts, failed: 1 };
  if (code === 0 && counts.passed === 0) return { ...counts, failed: counts.failed + 1 };
  return counts;
}

async function bunTest(...paths: string[]): Promise<Counts> {
  const { code, output } = await command([BUN, "test", "--timeout", "120000", ...paths]);
  return checked({ passed: count(output, /^\s*(\d+) pass$/gm), failed: count(output, /^\s*(\d+) fail$/gm) }, code);
}

/** Clients of the official Go library, and the judge of what they record (its runs are the suite "cluster"). */
async function goTest(): Promise<Counts> {
  const modules = [await goModule("test/compat/go"), await goModule("test/compat/go-cluster")];
  return modules.reduce((a, b) => ({ passed: a.passed + b.passed, failed: a.failed + b.failed }));
}

async function goModule(path: string): Promise<Counts> {
  const { code, output } = await command(["go", "test", "-count=1", "-json", "./..."], { cwd: join(ROOT, path) });
  const events = output
    .split("\n")
    .flatMap((line) => (line.startsWith("{") ? [JSON.parse(line) as Record<string, string>] : []));
  const ended = (action: string) =>
    events.filter((event) => event.Test !== undefined && event.Action === action).length;
  return checked({ passed: ended("pass"), failed: ended("fail") }, code);
}

async function mavenTest(): Promise<Counts> {
  const cwd = join(ROOT, "test/compat/java");
  const { code } = await command(["mvn", "-q", "-B", "test"], { cwd });
  const reports = join(cwd, "target/surefire-reports");
  const files = existsSync(reports) ? readdirSync(reports).filter((name) => name.endsWith(".xml")) : [];
  const suites = files.map((name) => /<testsuite[^>]*>/.exec(readFileSync(join(reports, name), "utf8"))?.[0] ?? "");
  const attribute = (name: string) =>
    suites.reduce((sum, head) => sum + Number(new RegExp(`\\b${name}="(\\d+)"`).exec(head)?.[1] ?? 0), 0);
  const failed = attribute("failures") + attribute("errors");
  return checked({ passed: attribute("tests") - failed - attribute("skipped"), failed }, code);
}

async function pythonTest(): Promise<Counts> {
  const cwd = join(ROOT, "test/compat/python");
  const venv = mkdtempSync(join(tmpdir(), "varia-python-"));
  try {
    const python = join(venv, "bin/python");
    const installed =
      (await command(["python3", "-m", "venv", venv])).code === 0 &&
      (await command([python, "-m", "pip", "install", "-q", "-r", "requirements.txt"], { cwd })).code === 0;
    if (!installed) return { passed: 0, failed: 1 };
    const { code, output } = await command([python, "-m", "pytest", "-q", "-p", "no:cacheprovider"], { cwd });
    return checked({ passed: count(output, /(\d+) passed/g), failed: count(output, /(\d+) (?:failed|error)/g) }, code);
  } finally {
    rmSync(venv, { recursive: true, force: true });
  }
}

async function cargoTest(): Promise<Counts> {
  const { code, output } = await command(["cargo", "test", "--locked", "-q"], { cwd: join(ROOT, "test/compat/rust") });
  return checked({ passed: count(output, /(\d+) passed/g), failed: count(output, /(\d+) failed/g) }, code);
}

/** Simulated clusters: seeds that are run twice and must be the same run, others once, mixtures with reference peers, real files. */
async function simulate(): Promise<Counts> {
  const sim = [BUN, "scripts/sim.ts"];
  const campaigns = [
    [...sim, "--seeds", "1000", "--verify-determinism"],
    [...sim, "--seed", "1000", "--seeds", "1000"],
    [...sim, "--mixed", "--seed", "1000", "--seeds", "100"],
    [...sim, "--lane", "sqlite", "--seeds", "500"],
    // two bugs planted in what the lane of real files runs: that it finds them says that its disks are real
    [...sim, "--mutants", "--only", "entries are not synced", "--seeds-max", "100"],
    [...sim, "--mutants", "--only", "flush forgets to sync", "--seeds-max", "100"],
  ];
  const total = { passed: 0, failed: 0 };
  for (const campaign of campaigns) {
    const { passed, failed } = await asOne(campaign);
    total.passed += passed;
    total.failed += failed;
  }
  return total;
}

const SUITES: readonly Suite[] = [
  { name: "check", tools: [], run: () => asOne([BUN, "run", "check"]) },
  { name: "build", tools: [], run: () => asOne([BUN, "scripts/build.ts", "--all"]) },
  {
    name: "unit",
    tools: [],
    run: () => bunTest("src", "web", "test/house.test.ts", "test/contract", "test/sim", "test/scenario"),
  },
  { name: "sim", tools: ["cc"], run: simulate },
  { name: "client", tools: [], run: () => bunTest("test/client") },
  { name: "go", tools: ["go"], run: goTest },
  { name: "java", tools: ["java", "mvn"], run: mavenTest },
  { name: "python", tools: ["python3"], run: pythonTest },
  { name: "rust", tools: ["cargo", "protoc"], run: cargoTest },
  { name: "e2e", tools: ["cc"], run: () => bunTest("test/e2e") },
  { name: "browser", tools: ["ip", "chromium"], run: () => bunTest("test/browser") },
  { name: "cluster", tools: ["cc", "go", "ip", "nft"], run: () => bunTest("test/cluster") },
];

const named = process.argv.slice(2);
const unknown = named.filter((name) => !SUITES.some((suite) => suite.name === name));
if (unknown.length > 0)
  throw new Error(`no such suite: ${unknown.join(", ")}; there are ${SUITES.map(({ name }) => name).join(", ")}`);
const total = { passed: 0, failed: 0 };
for (const suite of SUITES.filter(({ name }) => named.length === 0 || named.includes(name))) {
  const missing = suite.tools.filter((tool) => Bun.which(tool) === null);
  if (missing.length > 0 && !IN_CI) {
    console.log(`${suite.name}: skipped, ${missing.join(" and ")} not found`);
    continue;
  }
  const started = performance.now();
  const { passed, failed } = missing.length > 0 ? { passed: 0, failed: 1 } : await suite.run();
  total.passed += passed;
  total.failed += failed;
  const why = missing.length > 0 ? `, ${missing.join(" and ")} not found` : "";
  console.log(
    `${suite.name}: ${passed} passed, ${failed} failed, ${Math.round((performance.now() - started) / 1000)} s${why}`,
  );
}
console.log(`${total.passed} passed, ${total.failed} failed`);
process.exit(total.failed === 0 ? 0 : 1);
