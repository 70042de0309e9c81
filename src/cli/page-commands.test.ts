/** What pages offer to copy into a terminal is a command line of ours. */
import { expect, test } from "bun:test";
import { whyNoCommand } from "../../test/harness/command-line.ts";
import { type clusterOf, fakeInspect } from "../../test/harness/fake-inspect.ts";
import { fakeRecords } from "../../test/harness/fake-records.ts";
import { webApp } from "../../web/app.ts";
import { buildProgram } from "./program.ts";
import { splitWords } from "./split-words.ts";

const PAGES = [
  ...["/", "/namespaces", "/namespaces/default", "/shards", "/shards/default/1", "/servers", "/events", "/diagnosis"],
  ...["/node", "/configuration", "/operations", "/operations/7"],
  "/do/swap-replica?namespace=default&shard=1&from=s1&to=s1",
  "/do/create-namespace?name=a.b&shards=1&replicas=1&sorting=natural&notifications=on",
  "/do/patch-namespace?name=default&replicas=2&notifications=off&seen=3+on",
  "/do/delete-namespace?name=default",
  "/do/drain-server?name=s1",
  "/do/switch-leader?namespace=default&shard=1&to=s1",
  "/do/freeze-shard?namespace=default&shard=1&seconds=60",
  "/do/cancel-operation?id=7",
  "/do/delete-record?namespace=default&key=a&version=1",
  "/do/log-level?level=debug",
  ...["/keys?namespace=default", "/keys/record?key=pk", "/keys/index?index=i&from=a"],
  "/keys/index?index=i&match=range&from=a&before=b",
];

/** In another shard than its key leads to. */
const { client } = fakeRecords([{ key: "pk", value: "x", partitionKey: "part-1" }]);

/** No command of ours asks for what it shows. */
const ASKED_BY_CURL = "/configuration";

test("every command on a page is one", async () => {
  const app = webApp(fakeInspect({ client }));
  const program = buildProgram();
  const found: string[] = [];
  const odd: string[] = [];
  for (const path of PAGES) {
    const request = new Request(`http://localhost${path}`, { headers: { host: "localhost" } });
    const html = await (await app.fetch(request, "127.0.0.1")).text();
    const commands = [...html.matchAll(/<code>(.*?)<\/code>/gs)].flatMap(([, text]) => unescaped(text!).split("\n"));
    for (const command of commands.filter((text) => text.startsWith("varia "))) {
      found.push(path);
      const why = whyNoCommand(program, splitWords(command).words.slice(1));
      if (why !== undefined) odd.push(`${path}: ${command}: ${why}`);
    }
  }
  app.close();
  expect(odd).toEqual([]);
  expect([...new Set(found)].sort()).toEqual(PAGES.filter((path) => path !== ASKED_BY_CURL).sort());
});

test("names that a shell would take apart are words of the command, and so is what a link brings along", async () => {
  const odd = "$(reboot) ; 'x'";
  const inspect = fakeInspect({ client });
  const { servers, shards } = inspect.cluster as ReturnType<typeof clusterOf>;
  for (const server of servers) server.name = odd;
  for (const shard of shards) shard.namespace = odd;
  const app = webApp(inspect);
  const word = encodeURIComponent(odd);
  for (const [path, asked] of [
    [`/shards/${word}/1`, 3],
    [`/do/delete-record?namespace=n&key=${word}&version=1`, 1],
    [`/do/delete-record?namespace=n&key=k&version=1&partitionKey=${word}`, 1],
    [`/keys/index?index=${word}&from=a`, 1],
    [`/keys/index?index=i&match=range&from=a&before=${word}`, 1],
  ] as const) {
    const request = new Request(`http://localhost${path}`, { headers: { host: "localhost" } });
    const html = await (await app.fetch(request, "127.0.0.1")).text();
    const commands = [...html.matchAll(/<code>(.*?)<\/code>/gs)].flatMap(([, text]) => unescaped(text!).split("\n"));
    const bare = commands.filter((text) => !splitWords(text).words.includes(odd));
    expect([path, commands.length, bare]).toEqual([path, asked, []]);
  }
  app.close();
});

function unescaped(text: string): string {
  return text
    .replaceAll("&quot;", '"')
    .replaceAll("&#39;", "'")
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&amp;", "&");
}
