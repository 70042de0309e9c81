import { expect, test } from "bun:test";
import { parse } from "yaml";
import { ConfigInvalid, parseConfig } from "./parse-config.ts";

const GOOD = `
namespaces:
  - {name: default, initialShardCount: 4, replicationFactor: 3}
  - name: other.one
    initialShardCount: 1
    replicationFactor: 2
    notificationsEnabled: false
    keySorting: natural
    readConsistency: leader
    antiAffinities: [{labels: [rack], mode: strict}]
servers:
  - {name: s1, public: "h1:6648", internal: "h1:6649"}
  - {public: "h2:6648", internal: "h2:6649"}
  - {name: s3, public: "h3:6648", internal: "h3:6649"}
serverMetadata:
  s1: {labels: {rack: a}}
  "h2:6649": {labels: {rack: b}}
allowExtraAuthorities: ["tls://lb:6648"]
coordinators: [{name: c1, publicAddress: "c1:6651"}]
loadBalancer: {scheduleInterval: 30s, quarantineTime: 5m}
autoSplit: {enabled: false}
`;

test("Oxia's document is read", () => {
  const { config, unknown } = parseConfig(parse(GOOD));
  expect(unknown).toEqual([]);
  expect(config.loadBalancer).toEqual({ scheduleIntervalMs: 30_000, quarantineTimeMs: 300_000 });
  const { config: quick } = parseConfig(
    parse(GOOD.replace("{scheduleInterval: 30s, quarantineTime: 5m}", "{scheduleInterval: 2s}")),
  );
  expect(quick.loadBalancer).toEqual({ scheduleIntervalMs: 2_000, quarantineTimeMs: 300_000 });
  expect(config.namespaces).toEqual([
    {
      name: "default",
      shards: 4,
      replicationFactor: 3,
      notificationsEnabled: true,
      keySorting: "hierarchical",
      readConsistency: "linearizable",
      antiAffinities: [],
    },
    {
      name: "other.one",
      shards: 1,
      replicationFactor: 2,
      notificationsEnabled: false,
      keySorting: "natural",
      readConsistency: "leader",
      antiAffinities: [{ labels: ["rack"] }],
    },
  ]);
  expect(config.servers).toEqual([
    { name: "s1", public: "h1:6648", internal: "h1:6649", labels: new Map([["rack", "a"]]) },
    { name: undefined, public: "h2:6648", internal: "h2:6649", labels: new Map([["rack", "b"]]) },
    { name: "s3", public: "h3:6648", internal: "h3:6649", labels: new Map() },
  ]);
  expect(config.allowExtraAuthorities).toEqual(["lb:6648"]);
});

test("an empty document is an empty cluster; fields that nobody knows are told by their paths", () => {
  expect(parseConfig(null).config).toEqual({ namespaces: [], servers: [], allowExtraAuthorities: [] });
  const misspelt = parse(GOOD.replace("replicationFactor: 3}", "replicationFactor: 3, replicas: 3}"));
  expect(parseConfig({ ...misspelt, server: [] }).unknown).toEqual(["namespaces.0.replicas", "server"]);
});

const BAD: readonly (readonly [why: string, from: string, to: string, message: string])[] = [
  ["a name that is none", "name: default", 'name: "-x"', 'namespaces.0.name "-x" is not made of'],
  ["a name with two dots", "name: default", "name: a..b", "namespaces.0.name"],
  ["a name that is given twice", "name: other.one", "name: default", 'namespaces.1.name "default" is given twice'],
  ["no shards", "initialShardCount: 4", "initialShardCount: 0", "namespaces.0.initialShardCount is not a whole number"],
  ["no replication", "replicationFactor: 3", "replicationFactor: 0", "namespaces.0.replicationFactor"],
  ["too many replicas", "replicationFactor: 3", "replicationFactor: 4", "4 is more than the 3 servers"],
  ["an order that is none", "keySorting: natural", "keySorting: random", 'namespaces.1.keySorting "random" is neither'],
  ["a consistency that is none", "readConsistency: leader", "readConsistency: no", "namespaces.1.readConsistency"],
  ["a rule that is relaxed", "mode: strict", "mode: relaxed", "relaxed is not supported"],
  ["a rule that is none", "mode: strict", "mode: soft", 'antiAffinities.0.mode "soft" is neither'],
  [
    "a rule that cannot be kept",
    "replicationFactor: 2",
    "replicationFactor: 3",
    "label rack has 2 values, fewer than 3",
  ],
  ["an address without a port", 'public: "h1:6648"', 'public: "h1"', 'servers.0.public "h1" is not host:port'],
  ["a port that is none", 'public: "h1:6648"', 'public: "h1:70000"', "servers.0.public"],
  ["no internal address", ', internal: "h1:6649"', "", "servers.0.internal is missing"],
  ["an address of two servers", "h2:6648", "h1:6648", 'servers.1.public "h1:6648" is that of servers.0 too'],
  ["one port for both", 'public: "h1:6648"', 'public: "h1:6649"', "servers.0.public is the internal address too"],
  ["a name of two servers", "name: s3", "name: s1", 'servers.2.name "s1" is that of servers.0 too'],
  ["labels of nobody", "  s1: {labels", "  s9: {labels", "serverMetadata.s9 is no server's name"],
  ["splitting by itself", "enabled: false", "enabled: true", "does not split shards by itself"],
  ["a duration of nothing", "scheduleInterval: 30s", "scheduleInterval: 0s", 'loadBalancer.scheduleInterval "0s"'],
  ["a duration that is none", "quarantineTime: 5m", "quarantineTime: soon", 'loadBalancer.quarantineTime "soon"'],
  ["an authority that is none", "tls://lb:6648", "tls://lb", "allowExtraAuthorities.0"],
  ["a coordinator without a name", "name: c1, ", "", "coordinators.0.name is missing"],
  ["text where a list belongs", "servers:\n  - ", "servers: nothing\nothers:\n  - ", "servers is not a list"],
];
for (const [why, from, to, message] of BAD) {
  test(`refused: ${why}`, () => {
    const text = GOOD.replace(from, to);
    expect(text).not.toBe(GOOD);
    expect(() => parseConfig(parse(text))).toThrow(ConfigInvalid);
    expect(() => parseConfig(parse(text))).toThrow(message);
  });
}
