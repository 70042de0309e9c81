/** @jsxImportSource hono/jsx */
/** `/login`: a token is asked for; it goes into no address and no log. */
import type { Page } from "../page.ts";

export function loginPage({ to, why, status }: { to: string; why: string; status?: 401 | 403 | 429 }): Page {
  const body = (
    <>
      <h1>Log in</h1>
      {why === "" ? null : (
        <p class="notice bad" role="alert">
          {why}
        </p>
      )}
      <p class="lead">
        This cluster is seen by those who hold one of its tokens: a viewer's looks, an admin's changes.
      </p>
      <form class="row" method="post" action="/login">
        <input type="hidden" name="to" value={to} />
        <label>
          Token
          <input type="password" name="token" autocomplete="current-password" required autofocus />
        </label>
        <button class="primary" type="submit">
          Log in
        </button>
      </form>
    </>
  );
  return { title: "Log in", body, ...(status === undefined ? {} : { status }) };
}
