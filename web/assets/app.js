// What the pages have beside htmx: a theme, times as one likes them, a pause of live updates, and keys. Everything works
// without it.
(() => {
  const root = document.documentElement;
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
  let paused = false;

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
    if (paused) event.preventDefault();
  });
  document.addEventListener("htmx:sse:after:message", showTimes);

  // --- copying ---
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (button === null || button === undefined) return;
    const text = button.parentElement.querySelector("code")?.textContent ?? "";
    await navigator.clipboard?.writeText(text);
    button.textContent = "Copied";
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
