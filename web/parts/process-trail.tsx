/** @jsxImportSource hono/jsx */
/** Above the pages of one process: the way back to its server, where that is another one, and to its other pages. */
import { query } from "./format.ts";

const PAGES = [
  ["/node", "Process"],
  ["/performance", "Performance"],
  ["/configuration", "Configuration"],
] as const;

/** Whether an address is of a page of another process. */
export function isOfServer(address: string): boolean {
  const { pathname, searchParams } = new URL(address, "http://localhost");
  return searchParams.has("server") && PAGES.some(([path]) => path === pathname);
}

/** Nothing for the process that shows the page: its pages are in the menu. */
export function ProcessTrail({ process: { server } }: { process: { readonly server?: string } }) {
  if (server === undefined) return null;
  return (
    <nav class="trail" aria-label="Server">
      <a href="/servers">Servers</a>
      {" › "}
      <a href={`/servers/${encodeURIComponent(server)}`}>{server}</a>
      {" › "}
      <ProcessLinks server={server} />
    </nav>
  );
}

export function ProcessLinks({ server }: { server: string }) {
  return (
    <>
      {PAGES.map(([path, name], nth) => (
        <>
          {nth === 0 ? "" : " · "}
          <a href={`${path}${query({ server })}`}>{name}</a>
        </>
      ))}
    </>
  );
}
