/** Follows a namespace until its standard input ends, and prints how many notifications it heard. For bench.ts. */
import { connect } from "../../src/client/connect.ts";

const client = await connect({ serviceAddress: process.argv[2]! });
const stop = new AbortController();
const notifications = await client.notifications({ signal: stop.signal });
console.log("subscribed");
let heard = 0;
const counting = (async () => {
  for await (const _ of notifications) heard++;
})();
await new Response(Bun.stdin.stream()).text();
// what is under way still comes: it is over when a while has brought nothing
for (let before = -1; before !== heard; ) {
  before = heard;
  await new Promise((resolve) => setTimeout(resolve, 500));
}
stop.abort();
await counting.catch(() => {});
console.log(heard);
await client.close();
