import { expect, test } from "bun:test";
import fc from "fast-check";
import { Writer } from "../wire/writer.ts";
import { HpackDecoder, HpackError, writeHeader } from "./hpack.ts";

const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"));

test("requests of the RFC are read, with the table that they build", () => {
  // C.4: with Huffman code
  const decoder = new HpackDecoder();
  expect(decoder.decode(hex("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff"))).toEqual({
    ":method": "GET",
    ":scheme": "http",
    ":path": "/",
    ":authority": "www.example.com",
  });
  expect(decoder.decode(hex("8286 84be 5886 a8eb 1064 9cbf"))["cache-control"]).toBe("no-cache");
  expect(decoder.decode(hex("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf"))).toMatchObject({
    ":authority": "www.example.com",
    "custom-key": "custom-value",
  });
});

test("responses of the RFC are read, with evictions from a table that was made small", () => {
  // C.6, after an update to 256 bytes
  const decoder = new HpackDecoder();
  decoder.decode(hex("3fe1 01"));
  const first = decoder.decode(
    hex(
      "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
    ),
  );
  expect(first).toMatchObject({ ":status": "302", location: "https://www.example.com" });
  expect(decoder.decode(hex("4883 640e ffc1 c0bf"))).toEqual({ ...first, ":status": "307" });
  const third = decoder.decode(
    hex(
      "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ),
  );
  expect(third).toMatchObject({
    ":status": "200",
    "content-encoding": "gzip",
    "set-cookie": "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
  });
});

test("headers come back as they were written", () => {
  const name = fc.oneof(
    fc.constantFrom(":path", "content-type", "te", "authorization"),
    fc.stringMatching(/^[a-z-]{1,200}$/),
  );
  const value = fc.string({ unit: "binary-ascii", maxLength: 300 });
  fc.assert(
    fc.property(fc.dictionary(name, value), (headers) => {
      const block = new Writer();
      for (const [key, text] of Object.entries(headers)) writeHeader(block, key, text);
      expect({ ...new HpackDecoder().decode(block.finish()) }).toEqual(headers);
    }),
  );
});

test("blocks that are none are refused", () => {
  for (const block of [
    "80",
    "ff 80 80 80 80 01",
    "40",
    "00 05 61",
    "be",
    "3f e2 3f",
    "00 81 00 01 61",
    "00 84 ff ff ff ff 00",
  ]) {
    expect(() => new HpackDecoder().decode(hex(block))).toThrow(HpackError);
  }
});

test("no bytes make the decoder do anything but answer or refuse", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 4 }), (blocks) => {
      const decoder = new HpackDecoder();
      try {
        for (const block of blocks) decoder.decode(block);
      } catch (error) {
        expect(error).toBeInstanceOf(HpackError);
      }
    }),
    { numRuns: 3000 },
  );
});
