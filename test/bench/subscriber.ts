/**
 * Follows all shards of a server until its standard input ends, and prints how many notifications it heard. They are
 * walked and counted, not decoded, so that it is the server which is measured. For bench.ts.
 */
import { Http2Transport } from "../../src/client/http2-transport.ts";
import { Reader } from "../../src/wire/reader.ts";

const [address, shards] = [process.argv[2]!, Number(process.argv[3])];
const ENTRY_TAG = 0x22;

const transport = new Http2Transport({});
let heard = 0;
let subscribed = 0;

function count(message: Uint8Array): void {
  const reader = new Reader(message);
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === ENTRY_TAG) heard++;
    reader.skip(tag);
  }
}

for (let shard = 0; shard < shards; shard++) {
  const request = shard === 0 ? [] : [0x08, shard];
  const message = Uint8Array.of(0, 0, 0, 0, request.length, ...request);
  const path = "/io.oxia.proto.v1.OxiaClient/GetNotifications";
  let isFirst = true;
  transport.open(
    { address, path, headers: {}, message },
    {
      message: (bytes) => {
        // the first says where the shard stands
        if (isFirst && ++subscribed === shards) console.log("subscribed");
        isFirst = false;
        count(bytes);
      },
      drained: () => {},
      ended: ({ message: why }) => {
        throw new Error(`the subscription has ended: ${why}`);
      },
    },
  );
}
await new Response(Bun.stdin.stream()).text();
// what is under way still comes: it is over when a while has brought nothing
for (let before = -1; before !== heard; ) {
  before = heard;
  await new Promise((resolve) => setTimeout(resolve, 500));
}
console.log(heard);
process.exit(0);
