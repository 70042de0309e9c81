/** What pages offer to copy into a terminal is a command line of ours. */
import { expect, test } from "bun:test";
import { fromJsonString } from "@bufbuild/protobuf";
import { whyNoCommand } from "../../test/harness/command-line.ts";
import { type clusterOf, fakeInspect } from "../../test/harness/fake-inspect.ts";
import { fakeRecords } from "../../test/harness/fake-records.ts";
import { webApp } from "../../web/app.ts";
import { OxiaAdmin } from "../gen/io/oxia/proto/v1/admin_pb.ts";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { buildProgram } from "./program.ts";
import { splitWords } from "./split-words.ts";

const PAGES = [
  ...["/", "/namespaces", "/namespaces/default", "/shards", "/shards/default/1", "/servers", "/events", "/diagnosis"],
  ...["/node", "/configuration", "/performance", "/operations", "/operations/7", "/servers/s1"],
  ...["/sessions", "/sessions/default/0/7"],
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

/** No command of ours asks for what they show. */
const ASKED_BY_CURL = ["/configuration", "/performance"];

test("every command on a page is one", async () => {
  const app = webApp(fakeInspect({ client }));
  const program = buildProgram();
  const found: string[] = [];
  const asked: string[] = [];
  const odd: string[] = [];
  for (const path of PAGES) {
    const request = new Request(`http://localhost${path}`, { headers: { host: "localhost" } });
    const html = await (await app.fetch(request, "127.0.0.1")).text();
    const commands = [...html.matchAll(/<code>(.*?)<\/code>/gs)].flatMap(([, text]) => unescaped(text!).split("\n"));
    for (const command of commands.filter((text) => text.startsWith("curl "))) {
      asked.push(path);
      odd.push(...whyNoCall(splitWords(command).words).map((why) => `${path}: ${command}: ${why}`));
    }
    for (const command of commands.filter((text) => text.startsWith("varia "))) {
      found.push(path);
      const why = whyNoCommand(program, splitWords(command).words.slice(1));
      if (why !== undefined) odd.push(`${path}: ${command}: ${why}`);
    }
  }
  app.close();
  expect(odd).toEqual([]);
  expect([...new Set(found)].sort()).toEqual(PAGES.filter((path) => !ASKED_BY_CURL.includes(path)).sort());
  expect([...new Set(asked)].sort()).toEqual(
    PAGES.filter((path) => !path.startsWith("/do/") && !path.startsWith("/keys")).sort(),
  );
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
    const bare = commands
      .filter((text) => text.startsWith("varia "))
      .filter((text) => !splitWords(text).words.includes(odd));
    expect([path, commands.filter((text) => text.startsWith("varia ")).length, bare]).toEqual([path, asked, []]);
  }
  app.close();
});

/** What is wrong with a call by curl: its method is none, or does not take the request. */
function whyNoCall(words: readonly string[]): string[] {
  const [, service, name] = new URL(words[2]!).pathname.split("/");
  const found = [VariaAdmin, OxiaAdmin]
    .find(({ typeName }) => typeName === service)
    ?.methods.find((method) => method.name === name);
  if (found === undefined) return [`there is no ${service}/${name}`];
  try {
    fromJsonString(found.input, words.at(-1)!);
    return [];
  } catch (error) {
    return [(error as Error).message];
  }
}

function unescaped(text: string): string {
  return text
    .replaceAll("&quot;", '"')
    .replaceAll("&#39;", "'")
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&amp;", "&");
}
