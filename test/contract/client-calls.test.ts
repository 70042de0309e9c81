import { Http2Transport } from "../../src/client/http2-transport.ts";
import { listenForTest } from "../harness/rpc-server.ts";
import { serveMethods } from "../sim/client/serve-methods.ts";
import { SimTransport } from "../sim/client/transport.ts";
import { Network } from "../sim/network.ts";
import { CALM } from "../sim/network-rates.ts";
import { SimNode } from "../sim/node.ts";
import { SimRandom } from "../sim/random.ts";
import { Scheduler } from "../sim/scheduler.ts";
import { Trace } from "../sim/trace.ts";
import { clientCallsContract } from "./client-calls.ts";

clientCallsContract("HTTP/2", async ({ methods }, flow) => {
  const listener = await listenForTest(methods);
  const transport = new Http2Transport();
  try {
    const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
    await flow({ transport, address: listener.address, sleep });
  } finally {
    transport.close();
    await listener.close({ graceMs: 0 });
  }
});

clientCallsContract("simulated", async ({ methods }, flow) => {
  const scheduler = new Scheduler({ trace: new Trace({ seed: 1, linesMax: 50 }) });
  const network = new Network(scheduler, new SimRandom(1), CALM);
  const [client, server] = ["client", "server"].map((name) => new SimNode(scheduler, name)) as [SimNode, SimNode];
  for (const node of [client, server]) network.attach(node);
  const life = server.start();
  const address = "server:6648";
  network.channel(life).listen(address, serveMethods(life, address, methods));
  const transport = new SimTransport(network.channel(client.start()), () => scheduler.nowMs);
  scheduler.complete("flow", () => flow({ transport, address, sleep: (ms) => scheduler.sleep(ms) }), 60_000);
});
