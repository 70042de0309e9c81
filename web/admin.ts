/** The methods that pages call, by their names. */
import { OxiaAdmin } from "../src/gen/io/oxia/proto/v1/admin_pb.ts";
import { VariaAdmin } from "../src/gen/varia/admin/v1/admin_pb.ts";

export const {
  getClusterStatus: GetClusterStatus,
  getDiagnosis: GetDiagnosis,
  getNodeStatus: GetNodeStatus,
  getConfiguration: GetConfiguration,
  setLogLevel: SetLogLevel,
  getHistory: GetHistory,
  listEvents: ListEvents,
  watchEvents: WatchEvents,
  swapReplica: SwapReplica,
  switchLeader: SwitchLeader,
  freezeShard: FreezeShard,
  thawShard: ThawShard,
  drainServer: DrainServer,
  listOperations: ListOperations,
  getOperation: GetOperation,
  cancelOperation: CancelOperation,
  listSessions: ListSessions,
  getSession: GetSession,
  closeSession: CloseSession,
} = VariaAdmin.method;

export const {
  getNamespace: GetNamespace,
  listNamespaces: ListNamespaces,
  createNamespace: CreateNamespace,
  patchNamespace: PatchNamespace,
  deleteNamespace: DeleteNamespace,
  listDataServers: ListDataServers,
} = OxiaAdmin.method;
