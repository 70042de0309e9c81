/** A program on the built client, run by node.test.ts under Node and Bun: node published.mjs host:port */
import assert from "node:assert/strict";
import { connect, RequestTimeoutError, UnexpectedVersionIdError } from "./client/index.js";

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
await client.deleteRange(`${run}/`, `${run}//`);
assert.equal(await client.get(keys[5]), undefined);
assert.equal(await client.delete(keys[5]), false);
await client.close();

await assert.rejects(connect({ serviceAddress: "127.0.0.1:1", requestTimeoutMs: 200 }), RequestTimeoutError);
console.log("all is well");
