"use strict";
// What pages do beside links and forms: copy, switch the theme, and show what is live. Text is only ever set as text.
(() => {
  const say = (text) => {
    document.getElementById("said").textContent = text;
  };

  const isDark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };

  const nameTheme = () => {
    for (const name of document.querySelectorAll("[data-theme-name]")) name.textContent = isDark() ? "Dark" : "Light";
  };

  const switchTheme = () => {
    const wanted = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = wanted;
    localStorage.setItem("theme", wanted);
    nameTheme();
    document.dispatchEvent(new Event("theme"));
  };

  const copy = async (button) => {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      say("Copied");
      const label = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = label), 1500);
    } catch {
      getSelection().selectAllChildren(source);
      say("Selected; copy with your keyboard");
    }
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.copy) copy(button);
    if (button && "themeSwitch" in button.dataset) switchTheme();
    for (const open of document.querySelectorAll("details.drop[open]")) {
      if (!open.contains(event.target)) open.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const open of document.querySelectorAll("details.drop[open]")) {
      open.open = false;
      open.querySelector("summary").focus();
    }
  });

  // A row that an action has replaced: whoever pressed its button stays there, and hears what became of it.
  document.addEventListener("htmx:load", ({ detail: { elt } }) => {
    if (!elt.dataset?.said) return;
    say(elt.dataset.said);
    (elt.querySelector("button") ?? elt.querySelector("a"))?.focus();
  });

  // What takes seconds says so, and cannot be sent twice.
  document.addEventListener("submit", ({ submitter }) => {
    if (!submitter?.dataset.doing) return;
    submitter.textContent = submitter.dataset.doing;
    say(submitter.dataset.doing);
    setTimeout(() => (submitter.disabled = true)); // after the form has taken its value
  });

  // On a narrow screen the menu begins closed.
  for (const menu of document.querySelectorAll("[data-menu]")) {
    if (matchMedia("(max-width: 52rem)").matches) menu.open = false;
  }

  const live = (place) => {
    const source = new EventSource(place.dataset.liveSource);
    source.addEventListener("totals", (event) => {
      const values = JSON.parse(event.data);
      place.classList.toggle("stale", Boolean(values.trouble));
      for (const [name, value] of Object.entries(values.texts ?? {})) {
        for (const cell of place.querySelectorAll(`[data-live="${name}"]`)) {
          if (cell.textContent !== value) cell.textContent = value;
        }
      }
      if (values.point) {
        const table = place.querySelector("table[data-keep]");
        if (table) document.dispatchEvent(new CustomEvent("point", { detail: { table, ...values.point } }));
      }
    });
    source.addEventListener("over", () => {
      source.close();
      location.reload();
    });
    addEventListener("pagehide", () => source.close());
  };

  addEventListener("DOMContentLoaded", () => {
    nameTheme();
    for (const place of document.querySelectorAll("[data-live-source]")) live(place);
    for (const form of document.querySelectorAll("form[data-submit-now]")) form.submit();
  });
})();
