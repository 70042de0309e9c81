/**
 * Generates src/gen/ from proto/, offline.
 *
 *     proto/ --buf build--> descriptors ----------------------> src/gen/
 *                                `--- key fields as bytes ----> src/gen/bytes/
 *
 * Oxia publishes key fields as `string`, peers may send any bytes in them, and protobuf-es throws
 * on bytes that are not UTF-8. So the server reads and writes a twin of the client schema in which
 * those fields are `bytes`. On the wire the two are the same; messages have the same names.
 *
 *     bun scripts/gen.ts           writes src/gen/
 *     bun scripts/gen.ts --check   fails when src/gen/ is not what proto/ says
 */
import { mkdir, mkdtemp, readdir, readFile, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type DescriptorProto,
  FieldDescriptorProto_Type,
  type FileDescriptorProto,
  type FileDescriptorSet,
  FileDescriptorSetSchema,
} from "@bufbuild/protobuf/wkt";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const GEN = join(ROOT, "src/gen");

/** The files that get a twin, with all that they import. */
const TWIN_ROOTS = ["io/oxia/proto/v1/client.proto", "io/streamnative/oxia/proto/client.proto", "proto/storage.proto"];

/** Fields that carry keys, or names that become part of keys: `bytes` in the twin. */
const BYTES_FIELDS = [
  "io.oxia.proto.v1.SecondaryIndex.index_name",
  "io.oxia.proto.v1.SecondaryIndex.secondary_key",
  "io.oxia.proto.v1.PutRequest.key",
  "io.oxia.proto.v1.PutRequest.partition_key",
  "io.oxia.proto.v1.PutResponse.key",
  "io.oxia.proto.v1.DeleteRequest.key",
  "io.oxia.proto.v1.DeleteRequest.partition_key",
  "io.oxia.proto.v1.DeleteRangeRequest.start_inclusive",
  "io.oxia.proto.v1.DeleteRangeRequest.end_exclusive",
  "io.oxia.proto.v1.GetRequest.key",
  "io.oxia.proto.v1.GetRequest.secondary_index_name",
  "io.oxia.proto.v1.GetResponse.key",
  "io.oxia.proto.v1.GetResponse.secondary_index_key",
  "io.oxia.proto.v1.ListRequest.start_inclusive",
  "io.oxia.proto.v1.ListRequest.end_exclusive",
  "io.oxia.proto.v1.ListRequest.secondary_index_name",
  "io.oxia.proto.v1.ListResponse.keys",
  "io.oxia.proto.v1.RangeScanRequest.start_inclusive",
  "io.oxia.proto.v1.RangeScanRequest.end_exclusive",
  "io.oxia.proto.v1.RangeScanRequest.secondary_index_name",
  "io.oxia.proto.v1.GetSequenceUpdatesRequest.key",
  "io.oxia.proto.v1.GetSequenceUpdatesResponse.highest_sequence_key",
  "io.oxia.proto.v1.NotificationEntry.key",
  "io.oxia.proto.v1.Notification.key_range_last",
  "proto.StorageEntry.partition_key",
];

/** Fields that carry text: `string` in the twin too. Every string field is in one of the lists. */
const TEXT_FIELDS = [
  "io.oxia.proto.v1.ShardAssignmentsRequest.namespace",
  "io.oxia.proto.v1.ShardAssignments.NamespacesEntry.key",
  "io.oxia.proto.v1.ShardAssignments.allowed_authorities",
  "io.oxia.proto.v1.ShardAssignment.leader",
  "io.oxia.proto.v1.PutRequest.client_identity",
  "io.oxia.proto.v1.Version.client_identity",
  "io.oxia.proto.v1.CreateSessionRequest.client_identity",
  "proto.StorageEntry.client_identity",
  "proto.SessionMetadata.identity",
];

async function main(args: string[]): Promise<void> {
  const check = args.includes("--check");
  if (args.some((arg) => arg !== "--check")) throw new GenError("usage: bun scripts/gen.ts [--check]");
  const scratch = await mkdtemp(join(tmpdir(), "varia-gen-"));
  try {
    const fresh = join(scratch, "gen");
    await generate(scratch, fresh);
    if (check) await compare(fresh);
    else await replace(fresh);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Writes what proto/ says to `out`; `scratch` takes the descriptors. */
async function generate(scratch: string, out: string): Promise<void> {
  const schema = join(scratch, "schema.binpb");
  buf("build", "--output", schema);
  buf("generate", schema, "--template", template(out));

  const twin = join(scratch, "twin.binpb");
  const descriptors = fromBinary(FileDescriptorSetSchema, await readFile(schema));
  await Bun.write(twin, toBinary(FileDescriptorSetSchema, bytesTwin(descriptors)));
  buf("generate", twin, "--template", template(join(out, "bytes")));
}

/** Runs the plugin with Bun, and has it write code that TypeScript need only strip of its types. */
function template(out: string): string {
  const plugin = fileURLToPath(import.meta.resolve("@bufbuild/protoc-gen-es/bin/protoc-gen-es"));
  const opt = ["target=ts", "import_extension=ts", "erasable_syntax=true"];
  return JSON.stringify({ version: "v2", plugins: [{ local: [process.execPath, plugin], out, opt }] });
}

function buf(...args: string[]): void {
  const command = fileURLToPath(import.meta.resolve("@bufbuild/buf/bin/buf"));
  const { exitCode } = Bun.spawnSync([process.execPath, command, ...args], {
    cwd: ROOT,
    stdout: "inherit",
    stderr: "inherit",
  });
  if (exitCode !== 0) throw new GenError(`buf ${args[0]} failed`);
}

/** The twin's files, key fields as bytes. Refuses lists that do not match the schema exactly. */
function bytesTwin(schema: FileDescriptorSet): FileDescriptorSet {
  const file = withImports(schema, TWIN_ROOTS);
  const undecided = new Set([...BYTES_FIELDS, ...TEXT_FIELDS]);
  for (const { name, field } of file.flatMap(stringFields)) {
    if (!undecided.delete(name)) {
      throw new GenError(`${name} is a string: say in scripts/gen.ts whether it is one of BYTES_FIELDS or TEXT_FIELDS`);
    }
    if (BYTES_FIELDS.includes(name)) field.type = FieldDescriptorProto_Type.BYTES;
  }
  if (undecided.size > 0) {
    throw new GenError(`listed in scripts/gen.ts, but no string field in proto/: ${[...undecided].join(", ")}`);
  }
  return { ...schema, file };
}

function withImports(schema: FileDescriptorSet, roots: string[]): FileDescriptorProto[] {
  const wanted = new Set(roots);
  for (const name of wanted) {
    const file = schema.file.find((candidate) => candidate.name === name);
    if (file === undefined) throw new GenError(`${name} is to have a twin, but is not in proto/`);
    for (const dependency of file.dependency) wanted.add(dependency);
  }
  return schema.file.filter(({ name }) => wanted.has(name));
}

type NamedField = { name: string; field: DescriptorProto["field"][number] };

function stringFields(file: FileDescriptorProto): NamedField[] {
  const within = (scope: string, message: DescriptorProto): NamedField[] => {
    const name = `${scope}.${message.name}`;
    return [
      ...message.field
        .filter((field) => field.type === FieldDescriptorProto_Type.STRING)
        .map((field) => ({ name: `${name}.${field.name}`, field })),
      ...message.nestedType.flatMap((nested) => within(name, nested)),
    ];
  };
  return file.messageType.flatMap((message) => within(file.package, message));
}

/** Puts the new src/gen/ in place of the old one. */
async function replace(fresh: string): Promise<void> {
  const files = await contents(fresh);
  const staged = `${GEN}.new`;
  await rm(staged, { recursive: true, force: true });
  await mkdir(staged, { recursive: true });
  for (const [name, text] of files) await Bun.write(join(staged, name), text);
  await rm(GEN, { recursive: true, force: true });
  await rename(staged, GEN);
  console.log(`src/gen: ${files.size} files`);
}

async function compare(fresh: string): Promise<void> {
  const wanted = await contents(fresh);
  const found = await contents(GEN);
  const differences = [...new Set([...wanted.keys(), ...found.keys()])]
    .sort()
    .filter((name) => wanted.get(name) !== found.get(name))
    .map(
      (name) =>
        `  ${!found.has(name) ? "missing" : !wanted.has(name) ? "not from proto/" : "differs"}: src/gen/${name}`,
    );
  if (differences.length > 0) {
    throw new GenError(`src/gen is not what proto/ says; run: bun scripts/gen.ts\n${differences.join("\n")}`);
  }
}

/** Text by path below `folder`; empty when there is no such folder. */
async function contents(folder: string): Promise<Map<string, string>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch((cause) => {
    if (cause.code === "ENOENT") return [];
    throw cause;
  });
  const texts = new Map<string, string>();
  for (const entry of entries.filter((candidate) => candidate.isFile())) {
    const path = join(entry.parentPath, entry.name);
    texts.set(path.slice(folder.length + 1), await readFile(path, "utf8"));
  }
  return texts;
}

/** A failure whose message is all that the caller needs. */
class GenError extends Error {}

try {
  await main(process.argv.slice(2));
} catch (cause) {
  if (!(cause instanceof GenError)) throw cause;
  console.error(cause.message);
  process.exit(1);
}
