/** Windows, and servers that break the rules of the protocol. */
import { expect, test } from "bun:test";
import { framed, open, RESPONSE_HEADERS, serveByHand, transport, WINDOW_BYTES } from "../../test/harness/http2-peer.ts";
import { CLIENT_CONNECTION_RETURN_BYTES } from "../model/limits.ts";
import { GrpcCode } from "./grpc-code.ts";

test("a connection's window is given back now and then, not with each message", async () => {
  const server = await serveByHand();
  const { call } = open(transport(), server.address);
  call.send(new Uint8Array(10));
  await server.has(1, 10);
  expect(server.windows).toEqual([0x7fff_ffff - WINDOW_BYTES]);
  await server.send(1, 4, 1, RESPONSE_HEADERS);
  const message = framed("x".repeat(16_000));
  const messages = Math.ceil(CLIENT_CONNECTION_RETURN_BYTES / message.length);
  for (let n = 0; n < messages; n++) await server.send(0, 0, 1, message);
  await server.givenBack(2);
  expect(server.windows.slice(1)).toEqual([messages * message.length]);
});

test("a stream that is held back by its server does not hold up another", async () => {
  const server = await serveByHand();
  const over = transport();
  expect(open(over, server.address).call.send(new Uint8Array(100_000))).toBe(false);
  await server.has(1, WINDOW_BYTES);
  await server.grant(0, 1000);
  open(over, server.address).call.send(new Uint8Array(1000));
  await server.has(3, 1000);
  expect(server.received(1)).toBe(WINDOW_BYTES);
});

test("a raise of the initial window counts for open streams too, whatever they were granted before", async () => {
  const server = await serveByHand();
  const { call } = open(transport(), server.address);
  call.send(new Uint8Array(1_000_000));
  await server.has(1, WINDOW_BYTES);
  await server.grant(1, 100_000);
  await server.setInitialWindow(131_070);
  await server.grant(0, 900_000);
  await server.has(1, 131_070 + 100_000);
  await server.setInitialWindow(200_000);
  await server.has(1, 300_000);
  // lowered, it must be granted back before anything leaves
  await server.setInitialWindow(100_000);
  await server.grant(1, 150_000);
  await server.has(1, 350_000);
  expect(server.received(1)).toBe(350_000);
});

test("a server that says goodbye lets what it has seen end, and the rest goes elsewhere", async () => {
  const server = await serveByHand();
  const over = transport();
  const seen = open(over, server.address, "/s/M", undefined, framed("a"));
  await server.has(1, 6);
  const unseen = open(over, server.address, "/s/M", undefined, framed("b"));
  await server.send(7, 0, 0, Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 0));
  expect((await unseen.ended).message).toContain("closing");
  // trailers: grpc-status 0, as a literal
  const block = Uint8Array.of(0x88, 0x00, 11, ...new TextEncoder().encode("grpc-status"), 1, 0x30);
  await server.send(1, 0x5, 1, block);
  expect((await seen.ended).code).toBe(GrpcCode.ok);
});

test("a server that breaks the protocol loses the connection", async () => {
  for (const [what, type, payload] of [
    ["push", 5, new Uint8Array(10)],
    ["continuation", 9, new Uint8Array(1)],
    ["window", 8, Uint8Array.of(0x7f, 0xff, 0xff, 0xff)],
    ["no entry", 1, Uint8Array.of(0xff)],
    ["frame of", 1, new Uint8Array(20_000)],
  ] as const) {
    const server = await serveByHand();
    const { call, ended } = open(transport(), server.address);
    call.send(framed("x"));
    await server.has(1, 6);
    await server.send(type, type === 1 ? 4 : 0, type === 8 ? 0 : 1, payload);
    const status = await ended;
    expect([status.code, status.message.includes(what) || status.message.includes("block")]).toEqual([
      GrpcCode.unavailable,
      true,
    ]);
  }
});

test("headers past their bound are refused", async () => {
  const server = await serveByHand();
  const { call, ended } = open(transport(), server.address);
  call.send(framed("x"));
  await server.has(1, 6);
  await server.send(1, 0, 1, new Uint8Array(16_000));
  for (let i = 0; i < 5; i++) await server.send(9, 0, 1, new Uint8Array(16_000));
  expect((await ended).message).toContain("headers of more than");
});
