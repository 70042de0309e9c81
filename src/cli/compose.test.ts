/** deploy/compose.yaml: what it starts are command lines of ours, and what it names is there. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { parse } from "yaml";
import { whyNoCommand } from "../../test/harness/command-line.ts";
import { parseConfig } from "../coordination/parse-config.ts";
import { buildProgram } from "./program.ts";

interface Service {
  readonly image: string;
  readonly hostname: string;
  readonly command: readonly string[];
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly secrets?: readonly string[];
  readonly configs?: readonly { readonly source: string; readonly target: string }[];
  readonly depends_on?: readonly string[];
  readonly healthcheck?: { readonly test: readonly string[] };
}

interface Compose {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
  readonly secrets: Readonly<Record<string, unknown>>;
  readonly configs: Readonly<Record<string, { readonly content: string }>>;
}

/** What the Compose specification knows of a file and of a service, as far as it is used here. */
const TOP = ["name", "services", "configs", "secrets", "volumes"];
const OF_SERVICE = [
  ...["image", "hostname", "command", "restart", "read_only", "depends_on", "ports", "volumes", "secrets", "configs"],
  "healthcheck",
];
const EXECUTABLE = "/usr/local/bin/varia";

const compose = async (): Promise<Compose> => {
  const text = await Bun.file(join(import.meta.dir, "../../deploy/compose.yaml")).text();
  return parse(text, { merge: true });
};

test("it has nothing that Compose does not know", async () => {
  const all = await compose();
  const names = Object.keys(all).filter((name) => !name.startsWith("x-"));
  expect(names.filter((name) => !TOP.includes(name))).toEqual([]);
  for (const [name, service] of Object.entries(all.services)) {
    expect([name, Object.keys(service).filter((key) => !OF_SERVICE.includes(key))]).toEqual([name, []]);
  }
});

test("each service starts a command of ours, and is asked for its health by one", async () => {
  const { services } = await compose();
  const program = buildProgram();
  for (const [name, { image, command, healthcheck }] of Object.entries(services)) {
    expect([name, image, whyNoCommand(program, command)]).toEqual([name, "varia", undefined]);
    const [how, executable, ...words] = healthcheck!.test;
    expect([name, how, executable, whyNoCommand(program, words)]).toEqual([name, "CMD", EXECUTABLE, undefined]);
  }
});

test("what a service names is there, and nothing is there that none names", async () => {
  const { services, volumes, secrets, configs } = await compose();
  const all = Object.values(services);
  const named = (list: (service: Service) => readonly string[]) => [...new Set(all.flatMap(list))].sort();
  expect(named(({ volumes: own = [] }) => own.map((text) => text.split(":")[0]!))).toEqual(Object.keys(volumes).sort());
  expect(named(({ secrets: own = [] }) => own)).toEqual(Object.keys(secrets).sort());
  expect(named(({ configs: own = [] }) => own.map(({ source }) => source))).toEqual(Object.keys(configs).sort());
  for (const { depends_on = [] } of all) for (const other of depends_on) expect(Object.keys(services)).toContain(other);
  const hostPorts = all.flatMap(({ ports = [] }) => ports.map((port) => /^(\d+):\d+$/.exec(port)?.[1]));
  expect(hostPorts).not.toContain(undefined);
  expect(new Set(hostPorts).size).toBe(hostPorts.length);
  // files that commands name are in the container
  for (const { command, secrets: own = [], configs: files = [] } of all) {
    const [token, config] = [flag(command, "--admin-token-file"), flag(command, "--cconfig")];
    expect(own.map((secret) => `/run/secrets/${secret}`)).toContain(token!);
    if (config !== undefined) expect(files.map(({ target }) => target)).toContain(config);
    for (const directory of ["--data-dir", "--wal-dir", "--metadata-dir"]) {
      const path = flag(command, directory);
      if (path !== undefined) expect(path).toStartWith("/data/");
    }
  }
});

test("the cluster's configuration names the servers that are started", async () => {
  const { services, configs } = await compose();
  const { config, unknown } = parseConfig(parse(configs.cluster!.content));
  expect(unknown).toEqual([]);
  const servers = Object.values(services).filter(({ command }) => command[0] === "storage");
  const addresses = servers.map(({ hostname }) => ({ public: `${hostname}:6648`, internal: `${hostname}:6649` }));
  expect(config.servers.map(({ public: address, internal }) => ({ public: address, internal }))).toEqual(addresses);
  const reached = servers.flatMap(({ ports = [] }) => ports.filter((port) => port.endsWith(":6648")));
  expect(config.allowExtraAuthorities).toEqual(reached.map((port) => `localhost:${port.split(":")[0]}`));
});

/** The value of a flag, in either of its forms. */
function flag(command: readonly string[], name: string): string | undefined {
  const joined = command.find((word) => word.startsWith(`${name}=`));
  if (joined !== undefined) return joined.slice(name.length + 1);
  const at = command.indexOf(name);
  return at < 0 ? undefined : command[at + 1];
}
