/**
 * A standalone server: one process that leads every shard of one namespace with replication factor 1. Its adapters are
 * built here, and handed to the flows.
 *
 *     start    directories → log → key-value files → lead each shard → public port → HTTP port
 *     stop     not ready → streams end → calls drain → writes are answered → state flushed → log closed
 */
import { join } from "node:path";
import { webApp } from "../../web/app.tsx";
import styleSheet from "../../web/assets/style.css" with { type: "text" };
import { Health as HealthService } from "../gen/grpc/health/v1/health_pb.ts";
import { OxiaClient } from "../gen/io/oxia/proto/v1/client_pb.ts";
import { OxiaClient as LegacyOxiaClient } from "../gen/io/streamnative/oxia/proto/client_pb.ts";
import { keyOrder } from "../model/keys.ts";
import { FLUSH_INTERVAL_MS, SHUTDOWN_GRACE_MS } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import type { Clock, Damage, Logger } from "../ports.ts";
import { initialRanges } from "../protocol/assignment.ts";
import { DamagedReplica, Shard } from "../replication/shard.ts";
import { Shards } from "../replication/shards.ts";
import { Assignments } from "../rpc/assignments-api.ts";
import { clientMethods } from "../rpc/client-api.ts";
import { HEALTH_PROCESS, HEALTH_READINESS, Health } from "../rpc/health-api.ts";
import { type Listener, requestBudget, startListener } from "../rpc/listener.ts";
import { reflectionMethods } from "../rpc/reflection-api.ts";
