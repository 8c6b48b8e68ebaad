// SPDX-License-Identifier: Apache-2.0
// The page works without this script; with it, it is live, filters as one types, and takes decisions.
"use strict";

(() => {
  const root = document.documentElement;
  root.classList.add("js");

  // Airflow's theme: the page is a frame of the same origin.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let outer = null;
  try {
    outer = parent !== window ? parent.document.documentElement : null;
  } catch {
    // Framed by another origin.
  }
  const setTheme = () => {
    const names = outer ? outer.classList : null;
    const isDark = names && (names.contains("dark") || names.contains("light")) ? names.contains("dark") : dark.matches;
    root.dataset.theme = isDark ? "dark" : "light";
  };
  setTheme();
  dark.addEventListener("change", setTheme);
  if (outer) new MutationObserver(setTheme).observe(outer, { attributeFilter: ["class"] });

  document.addEventListener("DOMContentLoaded", () => {
    const announce = (text) => {
      document.getElementById("announce").textContent = text;
    };
    const live = () => document.getElementById("live");

    // Players: the first frame is loaded once a card is near.
    const near = new IntersectionObserver(
      (entries) => {
        for (const { isIntersecting, target } of entries) {
          if (!isIntersecting) continue;
          near.unobserve(target);
          target.preload = "metadata";
        }
      },
      { rootMargin: "200px" },
    );
    const watchPlayers = (within) => {
      for (const video of within.querySelectorAll("video")) {
        near.observe(video);
        video.addEventListener("error", () => {
          video.parentElement.querySelector(".unplayable").hidden = false;
        });
      }
    };

    // Updates: only what differs is changed, so that focus, selections and players stay.
    const isPlaying = (video) => Boolean(video && !video.paused && !video.ended);
    const keepsPlayer = (old, fresh) => {
      const [mine, other] = [old, fresh].map((media) => media.querySelector("video"));
      return isPlaying(mine) || Boolean(mine && mine.getAttribute("src") === other?.getAttribute("src"));
    };
    const update = (old, fresh) => {
      if (old.nodeType !== Node.ELEMENT_NODE) {
        if (old.data !== fresh.data) old.data = fresh.data;
        return;
      }
      if (old.matches(".media") && keepsPlayer(old, fresh)) return;
      if (old.matches(".decide") && old.dataset.name === fresh.dataset.name) {
        // Keeps what was selected, and the answer to a decision.
        if (fresh.dataset.token) old.dataset.token = fresh.dataset.token;
        return;
      }
      if (old.id === "many") return;
      for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
      for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
      updateChildren(old, fresh);
    };
    const updateChildren = (old, fresh) => {
      const wanted = new Set([...fresh.children].map(({ id }) => id));
      for (const child of [...old.children]) if (child.id && !wanted.has(child.id)) child.remove();
      const known = new Map([...old.children].filter(({ id }) => id).map((child) => [child.id, child]));
      let place = old.firstChild;
      for (const child of [...fresh.childNodes]) {
        const mine = child.id ? known.get(child.id) : place && !place.id ? place : null;
        // What stands before the one that is kept goes: moving a player would stop it.
        while (mine && place && place !== mine && !place.id) {
          const next = place.nextSibling;
          place.remove();
          place = next;
        }
        if (mine && mine.nodeName === child.nodeName) {
          if (mine === place) place = place.nextSibling;
          else old.insertBefore(mine, place);
          update(mine, child);
        } else {
          old.insertBefore(child, place);
          if (child.nodeType === Node.ELEMENT_NODE) watchPlayers(child);
        }
      }
      while (place) {
        const next = place.nextSibling;
        place.remove();
        place = next;
      }
    };

    const countsOf = (within) =>
      [...within.querySelectorAll("#totals .totals > div")]
        .map((each) => `${each.querySelector("dt").textContent}: ${each.querySelector("dd").textContent}`)
        .join(", ");
    let asked = 0;
    const load = async (url) => {
      const turn = ++asked;
      const response = await fetch(url, { headers: { accept: "text/html" }, cache: "no-store" });
      if (response.status === 401 || response.status === 403) {
        stopped = true;
        announce("Updates have stopped: log in to Airflow again, and reload this page.");
        return false;
      }
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      const text = await response.text();
      // A later request is on its way.
      if (turn !== asked) return true;
      const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("live");
      if (!fresh) throw new Error("not a page of this application");
      const before = countsOf(document);
      update(live(), fresh);
      updatePicked();
      const after = countsOf(document);
      if (after !== before) announce(`Updated. ${after}`);
      return true;
    };

    // Polls only while something is unfinished and somebody can see it; more slowly after errors.
    let timer = 0;
    let failures = 0;
    let stopped = false;
    const schedule = () => {
      clearTimeout(timer);
      const seconds = Number(live()?.dataset.poll ?? 0);
      if (stopped || !seconds || document.hidden) return;
      timer = setTimeout(poll, Math.min(seconds * 2 ** failures, 300) * 1000);
    };
    const poll = async () => {
      if (document.querySelector("dialog[open]")) return schedule();
      try {
        await load(location.href);
        failures = 0;
      } catch {
        failures += 1;
      }
      schedule();
    };
    document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : schedule()));

    const form = document.getElementById("filter");
    if (form) {
      let pause = 0;
      const apply = async () => {
        clearTimeout(pause);
        const url = new URL(location.href);
        url.search = new URLSearchParams([...new FormData(form)].filter(([, value]) => value)).toString();
        history.replaceState(null, "", url);
        try {
          await load(url);
          announce(document.getElementById("shown")?.textContent ?? "");
        } catch {
          announce("The filter could not be applied; try again.");
        }
        schedule();
      };
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        apply();
      });
      form.addEventListener("change", apply);
      form.addEventListener("input", (event) => {
        if (event.target.type !== "search") return;
        clearTimeout(pause);
        pause = setTimeout(apply, 300);
      });
    }

    // Copying the id.
    const copy = async (button) => {
      const text = button.dataset.copy;
      let copied = false;
      try {
        await navigator.clipboard.writeText(text);
        copied = true;
      } catch {
        // No secure context, or the frame may not.
        const field = document.createElement("textarea");
        field.value = text;
        field.className = "unseen";
        document.body.append(field);
        field.select();
        copied = document.execCommand("copy");
        field.remove();
        button.focus();
      }
      button.textContent = copied ? "Copied" : "Not copied";
      announce(copied ? `Copied ${text}` : "The id could not be copied");
      setTimeout(() => (button.textContent = "Copy"), 2000);
    };

    // Decisions on uncertain submits.
    const picks = () => [...document.querySelectorAll(".decide .pick input")];
    const pickedDecides = () => picks().filter((pick) => pick.checked).map((pick) => pick.closest(".decide"));
    const updatePicked = () => {
      const count = pickedDecides().length;
      const text = document.getElementById("picked");
      if (text) text.textContent = count ? `${count} selected` : "";
      for (const button of document.querySelectorAll("[data-many]")) button.disabled = count === 0;
    };
    const dialog = document.getElementById("decision");
    let asking = null;

    const ask = (decision, decides, opener) => {
      const many = decides.length > 1;
      const find = (id) => document.getElementById(`decision-${id}`);
      const sums = new Map();
      for (const { dataset } of decides) {
        if (dataset.unit) sums.set(dataset.unit, (sums.get(dataset.unit) ?? 0) + Number(dataset.amount));
      }
      const cost = [...sums].map(([unit, sum]) => `${Number(sum.toFixed(6))} ${unit}`).join(" + ");
      const ids = find("ids");
      ids.replaceChildren();
      if (decision === "adopt") {
        find("title").textContent = many ? `Take these ${decides.length} ids?` : "Take this id?";
        find("text").textContent = "Enter the id of the job at the vendor. The task then waits for that job, and buys nothing.";
        for (const decide of decides) {
          const label = document.createElement("label");
          label.append(`Kling task id${many ? ` for ${decide.dataset.title}` : ""}`);
          const input = document.createElement("input");
          Object.assign(input, { type: "text", required: true, maxLength: 250, autocomplete: "off", spellcheck: false });
          label.append(input);
          ids.append(label);
        }
        find("cost").textContent = "A wrong id makes the task take another video, and the one that was paid for is lost.";
        find("confirm").textContent = many ? "Take these ids" : "Take this id";
      } else {
        find("title").textContent = many ? `Submit ${decides.length} videos again?` : "Submit this video again?";
        find("text").textContent = many
          ? `You confirm that you looked at the vendor for all ${decides.length} submits, and that there is no job for any of them.`
          : `You confirm that you looked at the vendor, and that there is no job for “${decides[0].dataset.title}”.`;
        find("cost").textContent =
          `${many ? "Each new submit is billed" : "The new submit is billed"}${cost ? `; the estimate is ${cost}` : ""}. ` +
          (many ? "A job that was overlooked is then paid for twice." : "If the job was overlooked, the video is paid for twice.");
        find("confirm").textContent = many ? `Submit ${decides.length} again` : "Submit again";
      }
      asking = { decision, decides, opener };
      dialog.returnValue = "";
      dialog.showModal();
      (ids.querySelector("input") ?? document.getElementById("decision-cancel")).focus();
    };

    const submitOf = ({ dataset }) => ({
      task_id: dataset.task,
      map_index: Number(dataset.mapIndex),
      name: dataset.name,
      token: dataset.token,
    });
    const post = async (decision, klingTaskId, decides) => {
      const problem = (message) => decides.map(() => ({ ok: false, message }));
      try {
        const response = await fetch(live().dataset.decisions, {
          method: "POST",
          headers: { "content-type": "application/json", accept: "application/json" },
          body: JSON.stringify({ decision, kling_task_id: klingTaskId, submits: decides.map(submitOf) }),
        });
        // Whatever failed may have failed after the decision.
        if (response.status >= 500) throw new Error(`HTTP ${response.status}`);
        const answer = await response.json();
        if (!response.ok) {
          const detail = typeof answer.detail === "string" ? answer.detail : `HTTP ${response.status}`;
          return problem(`Nothing was decided: ${detail}`);
        }
        return decides.map(
          (decide) =>
            answer.results.find(
              (result) =>
                result.task_id === decide.dataset.task &&
                result.map_index === Number(decide.dataset.mapIndex) &&
                result.name === decide.dataset.name,
            ) ?? { ok: false, message: "The server said nothing about this submit." },
        );
      } catch {
        return problem("The server gave no answer. Reload the page to see whether the decision was taken.");
      }
    };
    const decide = async ({ decision, decides, opener }) => {
      const ids = [...document.querySelectorAll("#decision-ids input")].map((input) => input.value.trim());
      const buttons = decides.flatMap((each) => [...each.querySelectorAll("button, input")]);
      for (const button of buttons) button.disabled = true;
      const results = [];
      if (decision === "adopt") {
        // Each submit has an id of its own.
        for (const [i, each] of decides.entries()) results.push(...(await post("adopt", ids[i], [each])));
      } else {
        results.push(...(await post("none", null, decides)));
      }
      results.forEach(({ ok, message }, i) => {
        let said = decides[i].querySelector(".said");
        if (!said) {
          said = document.createElement("p");
          said.className = "said";
          decides[i].append(said);
        }
        said.textContent = message;
        for (const button of decides[i].querySelectorAll("button, input")) {
          button.disabled = ok;
          if (button.type === "checkbox") button.checked = false;
        }
      });
      const done = results.filter(({ ok }) => ok).length;
      announce(results.length === 1 ? results[0].message : `${done} of ${results.length} decisions were taken.`);
      updatePicked();
      if (opener.isConnected && !opener.disabled) opener.focus();
    };
    document.getElementById("decision-cancel")?.addEventListener("click", () => dialog.close());
    dialog?.addEventListener("close", () => {
      const wanted = asking;
      asking = null;
      if (!wanted) return;
      if (dialog.returnValue === "confirm") decide(wanted);
      else wanted.opener.focus();
      schedule();
    });

    document.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const { dataset } = button;
      if (dataset.copy !== undefined) copy(button);
      else if (dataset.decision) ask(dataset.decision, [button.closest(".decide")], button);
      else if (dataset.many) ask(dataset.many, pickedDecides(), button);
      else if (dataset.pick) {
        const all = picks();
        const isOn = all.some((pick) => !pick.checked);
        for (const pick of all) pick.checked = isOn;
        updatePicked();
      }
    });
    document.addEventListener("change", (event) => {
      if (event.target.closest(".pick")) updatePicked();
    });

    watchPlayers(document);
    schedule();
  });
})();
