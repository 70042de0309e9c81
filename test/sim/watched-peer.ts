/** A data server whose answers the checkers of a cluster hear, before they go out. */
import type { PeerServer } from "./peer-service.ts";
import type { RecentCalls } from "./recent-calls.ts";
import type { WatchedServer } from "./watched-log.ts";

export function watchPeer(server: PeerServer, watched: WatchedServer, calls: RecentCalls): PeerServer {
  const { server: name, of, changes } = watched;
  return {
    handshake: (request) => server.handshake(request),
    async newTerm(request) {
      const isRepeated = calls.heard("newTerm", request);
      const invariants = of(request.shard);
      invariants.newTermAsked(name, request.term);
      const response = await server.newTerm(request);
      if (response.ended === "" && !isRepeated)
        invariants.fenced(name, request.term, response.replicaId, response.head);
      return response;
    },
    becomeLeader(request) {
      calls.heard("becomeLeader", request);
      of(request.shard).becomeLeaderAsked(name, request);
      return server.becomeLeader(request);
    },
    addFollower(request) {
      calls.heard("addFollower", request);
      return server.addFollower(request);
    },
    getStatus: (request) => server.getStatus(request),
    async freezeShard(request) {
      calls.heard("freezeShard", request);
      const response = await server.freezeShard(request);
      if (request.frozen) changes.frozen(request.shard, request.term, response.headOffset);
      return response;
    },
    removeObserver(request) {
      calls.heard("removeObserver", request);
      return server.removeObserver(request);
    },
    async deleteShard(request) {
      calls.heard("deleteShard", request);
      const invariants = of(request.shard);
      invariants.deleteAsked(name);
      const lived = invariants.livingAt(name);
      await server.deleteShard(request);
      if (invariants.livingAt(name) === undefined) changes.deleted(name, request, lived);
    },
    truncate(request) {
      calls.heard("truncate", request);
      return server.truncate(request);
    },
    replicate: (shard, stream) =>
      server.replicate(shard, {
        next: () => stream.next(),
        send(ack) {
          of(shard.shard).acked(name, shard.term, ack.offset);
          stream.send(ack);
        },
      }),
    sendSnapshot: (shard, chunks) => server.sendSnapshot(shard, chunks),
    takeAssignments(assignments) {
      changes.assigned(assignments);
      server.takeAssignments(assignments);
    },
  };
}
