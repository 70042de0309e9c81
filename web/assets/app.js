// What the pages have beside htmx: a theme, times as one likes them, a pause of live updates, and keys. Everything works
// without it.
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const store = (name, value) => {
    try {
      if (value === undefined) return localStorage.getItem(`varia-${name}`);
      localStorage.setItem(`varia-${name}`, value);
    } catch {
      // storage may be refused: the choice then lasts as long as the page
    }
    return value;
  };

  // --- theme ---
  const themes = ["auto", "light", "dark"];
  const applyTheme = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  let theme = store("theme") ?? "auto";
  applyTheme(theme);

  // --- times ---
  const timeModes = ["utc", "local", "relative"];
  let timeMode = store("times") ?? "utc";
  const relative = (ms) => {
    const s = Math.round((Date.now() - ms) / 1000);
    if (s < 60) return `${Math.max(0, s)} s ago`;
    if (s < 3600) return `${Math.floor(s / 60)} min ago`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min ago`;
    return `${Math.floor(s / 86400)} d ago`;
  };
  const showTimes = () => {
    for (const time of document.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      const utc = `${at.toISOString().slice(0, 19).replace("T", " ")} UTC`;
      const text = timeMode === "utc" ? utc : timeMode === "local" ? at.toLocaleString() : relative(at.getTime());
      if (time.textContent !== text) time.textContent = text;
    }
  };

  // --- live ---
  // The server says something at least every 5 s. A page that hears nothing for longer looks by itself, and says that what
  // it shows is old, and why: it must not go on looking well.
  const SILENCE_MS_MAX = 12_000;
  const LOOK_MS = 5_000;
  let paused = false;
  let heardAtMs = Date.now();
  let shownAtMs = heardAtMs;
  let lookedAtMs = 0;
  const stale = (why, { login = false } = {}) => {
    const banner = document.getElementById("stale");
    if (banner === null) return;
    const part = (name) => banner.querySelector(`[data-stale="${name}"]`);
    banner.hidden = why === "";
    part("login").hidden = !login;
    const since = new Date(shownAtMs).toISOString().slice(11, 19);
    for (const [name, text] of Object.entries({ why, since: `${since} UTC` })) {
      if (part(name).textContent !== text) part(name).textContent = text;
    }
  };
  const hear = () => {
    heardAtMs = Date.now();
    shownAtMs = heardAtMs;
    stale("");
  };
  const look = async () => {
    if (Date.now() - lookedAtMs < LOOK_MS) return;
    lookedAtMs = Date.now();
    const asked = lookedAtMs;
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      const text = await answer.text();
      if (heardAtMs > asked) return; // the stream is back meanwhile
      if (answer.redirected) stale("Your session has ended.", { login: true });
      else if (!answer.ok) stale(`The server answers with status ${answer.status}.`);
      else {
        const live = document.getElementById("live");
        const swap = "innerMorph strip:true ignoreTitle:true";
        if (!paused) await htmx.swap({ sourceElement: live, target: live, text, select: "#live", swap });
        showTimes();
        shownAtMs = Date.now();
        stale("The stream of changes does not come through: the page is asked for every few seconds.");
      }
    } catch {
      stale("The server does not answer.");
    }
  };

  document.addEventListener("DOMContentLoaded", () => {
    const tools = document.querySelector(".tools");
    if (tools === null) return;
    tools.classList.add("on");
    const button = (name) => tools.querySelector(`[data-tool="${name}"]`);
    const label = () => {
      button("theme").textContent = `Theme: ${theme}`;
      button("times").textContent = `Times: ${timeMode}`;
      const live = button("live");
      live.textContent = paused ? "Live: paused" : "Live: on";
      live.setAttribute("aria-pressed", String(paused));
      live.hidden = document.querySelector("[data-live]") === null;
    };
    if (document.querySelector("[data-live]") !== null) {
      setInterval(() => {
        if (document.hidden) heardAtMs = Date.now();
        else if (Date.now() - heardAtMs > SILENCE_MS_MAX) void look();
      }, 1000);
    }
    button("theme").addEventListener("click", () => {
      theme = themes[(themes.indexOf(theme) + 1) % themes.length];
      store("theme", theme);
      applyTheme(theme);
      label();
    });
    button("times").addEventListener("click", () => {
      timeMode = timeModes[(timeModes.indexOf(timeMode) + 1) % timeModes.length];
      store("times", timeMode);
      showTimes();
      label();
    });
    button("live").addEventListener("click", () => {
      paused = !paused;
      label();
    });
    label();
    showTimes();
    setInterval(() => {
      if (timeMode === "relative") showTimes();
    }, 1000);
  });
  document.addEventListener("htmx:sse:before:message", (event) => {
    hear();
    if (paused) event.preventDefault();
  });
  document.addEventListener("htmx:sse:after:connection", ({ detail }) => {
    if (detail.connection.status === 200) hear();
  });
  document.addEventListener("htmx:sse:error", () => void look());
  document.addEventListener("htmx:sse:after:message", showTimes);

  // --- copying ---
  // Browsers offer their clipboard over TLS and on the own machine alone; elsewhere what is selected can be copied.
  const copied = async (code) => {
    if (navigator.clipboard !== undefined) {
      return navigator.clipboard.writeText(code.textContent).then(
        () => true,
        () => false,
      );
    }
    getSelection().selectAllChildren(code);
    return document.execCommand("copy");
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (button === null || button === undefined) return;
    const code = button.parentElement.querySelector("code");
    button.textContent = (await copied(code)) ? "Copied" : "Not copied";
  });

  // --- back ---
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("[data-back]") == null || history.length < 2) return;
    event.preventDefault();
    history.back();
  });

  // --- keys ---
  let pending = "";
  const places = {
    o: "/",
    n: "/namespaces",
    s: "/shards",
    d: "/servers",
    p: "/operations",
    e: "/events",
    k: "/keys",
    i: "/diagnosis",
    c: "/sessions",
    w: "/notifications",
    f: "/performance",
    t: "/configuration",
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("input, textarea, select") !== null) return;
    if (pending === "g" && places[event.key] !== undefined) {
      pending = "";
      location.assign(places[event.key]);
      return;
    }
    pending = event.key === "g" ? "g" : "";
    if (event.key === "/") {
      const search = document.querySelector("input[data-search]");
      if (search === null) return;
      event.preventDefault();
      search.focus();
    } else if (event.key === "?") location.assign("/help");
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") moveInTable(event);
  });

  // from row to row, where something of a table has the focus; a table itself lets go into its first row
  const moveInTable = (event) => {
    const linkOf = (row) => row?.querySelector("a, button, input, select") ?? null;
    const row = event.target.closest?.("tbody tr") ?? null;
    let next = null;
    if (row === null)
      next = event.key === "ArrowDown" ? linkOf(event.target.querySelector?.(":scope > table > tbody > tr")) : null;
    else {
      const step = event.key === "ArrowDown" ? "nextElementSibling" : "previousElementSibling";
      for (let at = row[step]; at !== null && next === null; at = at[step]) next = linkOf(at);
    }
    if (next === null) return;
    event.preventDefault();
    next.focus();
  };
})();
