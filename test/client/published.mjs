/** A program on the built client, run by node.test.ts under Node and Bun: node published.mjs host:port */
import assert from "node:assert/strict";
import { connect, LeaderElection, Lock, RequestTimeoutError, UnexpectedVersionIdError } from "./client/index.js";

const client = await connect({ serviceAddress: process.argv[2] });
const run = `${process.release.name}-${process.versions.bun ?? "none"}-${Date.now().toString(36)}`;
const text = (bytes) => new TextDecoder().decode(bytes);

const keys = Array.from({ length: 1000 }, (_, i) => `${run}/${i}`);
await Promise.all(keys.map((key, i) => client.put(key, `value ${i}`)));
const found = await Promise.all(keys.map((key) => client.get(key)));
assert.deepEqual(
  found.map((record) => text(record.value)),
  keys.map((_, i) => `value ${i}`),
);

const listed = [];
for await (const key of client.list({ startInclusive: `${run}/`, endExclusive: `${run}//` })) listed.push(key);
assert.deepEqual(listed, [...keys].sort());

let scanned = 0;
for await (const page of client.rangeScan({ startInclusive: `${run}/`, endExclusive: `${run}//` }).pages()) {
  scanned += page.length;
}
assert.equal(scanned, keys.length);

await assert.rejects(client.put(keys[0], "x", { mustNotExist: true }), UnexpectedVersionIdError);
assert.equal(text((await client.get(`${run}/10`, { comparison: "higher" })).value), "value 100");
const bytes = Uint8Array.of(0xff, 0xfe, ...new TextEncoder().encode(run));
await client.put(bytes, "é");
assert.deepEqual((await client.get(bytes)).keyBytes, bytes);
const large = new Uint8Array(3_000_000).fill(3);
await client.put(`${run}-large`, large);
assert.deepEqual((await client.get(`${run}-large`)).value, large);

const changes = await client.notifications();
const ephemeral = await client.put(`${run}-ephemeral`, "x", { ephemeral: true });
assert.notEqual(ephemeral.version.sessionId, undefined);
for await (const change of changes) {
  if (change.key !== `${run}-ephemeral`) continue;
  assert.deepEqual([change.type, change.versionId], ["created", ephemeral.version.versionId]);
  break;
}
const updates = client.sequenceUpdates(run, { partitionKey: run });
const { key: numbered } = await client.put(run, "x", { partitionKey: run, sequenceKeysDeltas: [1] });
assert.equal(numbered, `${run}-00000000000000000001`);
assert.deepEqual(await updates.next(), { done: false, value: numbered });
await updates.return();
await client.put(`${run}-indexed`, "x", { secondaryIndexes: [{ name: run, key: "k" }] });
assert.equal((await client.get("k", { useIndex: run })).key, `${run}-indexed`);
const cache = await client.cache();
await cache.put(`${run}-cached`, { n: 1 });
assert.deepEqual(await cache.get(`${run}-cached`), { n: 1 });
await cache.close();
const lock = new Lock(client, run);
const held = await lock.acquire();
await assert.rejects(lock.acquire({ waitMs: 0 }), RequestTimeoutError);
await held.release();
const election = new LeaderElection(client, `${run}-election`, { identity: "me" });
const leadership = await election.campaign();
assert.equal((await election.leader()).identity, "me");
await leadership.resign();

await client.deleteRange(`${run}/`, `${run}//`);
assert.equal(await client.get(keys[5]), undefined);
assert.equal(await client.delete(keys[5]), false);
await client.close();

await assert.rejects(connect({ serviceAddress: "127.0.0.1:1", requestTimeoutMs: 200 }), RequestTimeoutError);
console.log("all is well");
