import { expect, test } from "bun:test";
import { resolveSettings } from "../ops/settings.ts";
import { COORDINATOR_SETTINGS, coordinatorFiles } from "./coordinator-settings.ts";

function files(flags: Record<string, string> = {}, file: unknown = undefined) {
  return coordinatorFiles(resolveSettings(COORDINATOR_SETTINGS, { flags, environment: {}, file }));
}

test("without a word about it, the status is kept in SQLite", () => {
  expect(files()).toEqual({ store: { kind: "sqlite", directory: "./data/coordinator" }, clusterConfig: undefined });
  expect(files({ metadata: "memory", cconfig: "c.yaml" })).toEqual({
    store: { kind: "memory" },
    clusterConfig: "c.yaml",
  });
});

test("any of Oxia's names for a status file means its file format", () => {
  expect(files({ fileClustersStatusPath: "/srv/s.json" }).store).toEqual({ kind: "file", statusPath: "/srv/s.json" });
  expect(files({}, { metadata: { file: { dir: "/srv" } } })).toEqual({
    store: { kind: "file", statusPath: "/srv/cluster-status.json" },
    clusterConfig: "/srv/cluster.yaml",
  });
  expect(files({}, { metadata: { file: { statusName: "/a/s", configName: "/b/c" } } })).toEqual({
    store: { kind: "file", statusPath: "/a/s" },
    clusterConfig: "/b/c",
  });
  expect(files({ metadata: "file" }).store).toEqual({ kind: "file", statusPath: "data/cluster-status.json" });
});

test("names that contradict each other are refused", () => {
  expect(() => files({ fileClustersStatusPath: "a", metadataFileDir: "b" })).toThrow("named twice");
  expect(() => files({ cconfig: "a", metadataFileConfig: "b" })).toThrow("named twice");
  expect(() => files({ metadata: "sqlite", fileClustersStatusPath: "a" })).toThrow("sqlite has no file of status");
});

test("stores that Varia does not have are named, not ignored", () => {
  for (const name of ["configmap", "raft", "etcd"]) {
    expect(() => files({ metadata: name })).toThrow(`Varia does not support ${name} as metadata store yet`);
  }
  expect(() => files({ metadata: "paper" })).toThrow('"paper" is not one of sqlite, file, memory');
});
