/** A client over fakePorts, with its shards told. */
import { VariaClient } from "../../src/client/client.ts";
import { type ClientOptions, resolveOptions } from "../../src/client/options.ts";
import { assignments, type FakePorts, type FakeShard, fakePorts, settle } from "./fake-transport.ts";

/** Two shards, which the fake hash tells apart: below 100, and from 100 on. */
export const TWO_SHARDS: readonly FakeShard[] = [
  { id: 0, leader: "zero:1", min: 0, max: 99 },
  { id: 1, leader: "one:1", min: 100, max: 0xffff_ffff },
];
export const ONE_SHARD: readonly FakeShard[] = [{ id: 0, leader: "zero:1", min: 0, max: 0xffff_ffff }];

export interface FakeClient {
  readonly client: VariaClient;
  readonly ports: FakePorts;
  /** Sends new assignments. */
  assign(shards: readonly FakeShard[]): void;
}

export async function openFakeClient(
  shards: readonly FakeShard[] = ONE_SHARD,
  options: ClientOptions = {},
): Promise<FakeClient> {
  const ports = fakePorts();
  const opening = VariaClient.open(ports, resolveOptions(options));
  const assign = (its: readonly FakeShard[]) => ports.transport.last("GetShardAssignments").answer(assignments(its));
  assign(shards);
  const client = await opening;
  await settle();
  return { client, ports, assign };
}

/** The error that a promise rejects with. */
export async function errorOf(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error("it did not fail");
}
