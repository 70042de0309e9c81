/** @jsxImportSource hono/jsx */
/** A data server as a row of a table. */
import type { Child } from "hono/jsx";
import { type ServerStatus, serverState } from "../view.ts";
import { Badge } from "./pieces.tsx";

/** Cells: its name, its state, those of `where`, how many replicas it holds and leads, those of `children`. */
export function ServerRow({ server, where, children }: { server: ServerStatus; where?: Child; children: Child }) {
  const { word, mood } = serverState(server);
  return (
    <tr>
      <th scope="row">
        <a href={`/servers/${encodeURIComponent(server.name)}`}>{server.name}</a>
      </th>
      <td>
        <Badge mood={mood}>{word}</Badge>
      </td>
      {where}
      <td class="n">{server.replicas}</td>
      <td class="n">{server.leaders}</td>
      {children}
    </tr>
  );
}
