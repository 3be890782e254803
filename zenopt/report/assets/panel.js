// The panel of one trial: its numbers, structure, picture and the commands that go on from it.
window.zenopt = window.zenopt || {};
(function () {
  "use strict";

  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function number(value) {
    if (value === null || value === undefined) return "-";
    if (Number.isInteger(value)) return value.toLocaleString("en-US");
    return Number(value.toPrecision(6)).toString();
  }

  // A structure is stored as the positions of its blocks.
  function structure(study, row) {
    const item = study.structures.items[row];
    return item === null ? "" : item.map((index) => study.structures.blocks[index]).join("");
  }

  function code(label, text, css) {
    return element("div", { class: "copy" }, element("span", { class: "faint" }, label),
      element("button", { type: "button", "data-copy": "" }, "Copy"), element("code", { class: css }, text));
  }

  function facts(study, row) {
    const list = element("div", { class: "facts" });
    const add = (label, text) => list.append(element("div", {}, element("span", {}, label), element("b", {}, text)));
    for (const [key, heading, values] of study.columns) {
      if (key === "trial" || values[row] === null) continue;
      const limit = study.limits[key];
      const used = limit ? `${number(values[row])} (${Math.round((100 * values[row]) / limit)} % of the limit)` : number(values[row]);
      add(heading, used);
    }
    const worker = study.workers[study.worker[row]];
    if (worker) add("worker", worker);
    return list;
  }

  function open(studyIndex, trial) {
    const study = zenopt.studies[studyIndex];
    const row = study ? study.columns[0][2].indexOf(trial) : -1;
    if (row < 0) return false;
    const panel = document.getElementById("panel");
    const close = element("button", { type: "button", "data-close": "", "aria-label": "Close" }, "Close");
    const note = study.notes[trial];
    panel.replaceChildren(
      element("div", { class: "panel-head" }, element("h2", {}, `Trial ${trial}`), close),
      element("p", { class: "faint" }, [study.states[study.state[row]], note, zenopt.studies.length > 1 && study.name].filter(Boolean).join(" · ")),
      facts(study, row),
    );
    const text = structure(study, row);
    if (text) {
      panel.append(code("Structure", text, "structure"));
      for (const [label, command] of study.commands)
        panel.append(code(label, command.replaceAll("{number}", trial).replaceAll("{structure}", text), "command"));
    }
    const picture = study.pictures[trial];
    if (picture) {
      const figure = element("figure", { class: "picture" });
      figure.innerHTML = picture;  // Drawn by zenopt, which escapes every word in it.
      figure.append(element("figcaption", {}, element("button", { type: "button", "data-save": `network-trial-${trial}` }, "Save as SVG")));
      panel.append(figure);
    }
    panel.hidden = false;
    panel.scrollTop = 0;
    close.focus({ preventScroll: true });
    return true;
  }

  document.addEventListener("click", function (event) {
    const opener = event.target.closest("[data-open]");
    if (opener) open(Number(opener.dataset.study), Number(opener.dataset.open));
    else if (event.target.closest("[data-close]")) document.getElementById("panel").hidden = true;
  });
  document.addEventListener("keydown", function (event) {
    if (event.key === "Escape") document.getElementById("panel").hidden = true;
  });

  Object.assign(zenopt, { element, number, structure, openTrial: open });
})();
