/** A data server whose answers the checkers of a cluster hear, before they go out. */
import type { PeerServer } from "./peer-service.ts";
import type { WatchedServer } from "./watched-log.ts";

export function watchPeer(server: PeerServer, { server: name, of }: WatchedServer): PeerServer {
  return {
    handshake: (request) => server.handshake(request),
    async newTerm(request) {
      const invariants = of(request.shard);
      invariants.newTermAsked(name, request.term);
      const response = await server.newTerm(request);
      if (response.ended === "") invariants.fenced(name, response.replicaId, response.head);
      return response;
    },
    becomeLeader(request) {
      of(request.shard).becomeLeaderAsked(name, request);
      return server.becomeLeader(request);
    },
    addFollower: (request) => server.addFollower(request),
    getStatus: (request) => server.getStatus(request),
    freezeShard: (request) => server.freezeShard(request),
    removeObserver: (request) => server.removeObserver(request),
    deleteShard: (request) => server.deleteShard(request),
    truncate: (request) => server.truncate(request),
    replicate: (shard, stream) =>
      server.replicate(shard, {
        next: () => stream.next(),
        send(ack) {
          of(shard.shard).acked(name, shard.term, ack.offset);
          stream.send(ack);
        },
      }),
    sendSnapshot: (shard, chunks) => server.sendSnapshot(shard, chunks),
    takeAssignments: (assignments) => server.takeAssignments(assignments),
  };
}
