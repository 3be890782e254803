// The table of trials: sorted by a click on a heading, filtered by words and comparisons, shown page by page, saved as CSV.
(function () {
  "use strict";
  const { element } = window.zenopt;
  const PAGE = 25;
  const UNITS = { k: 1e3, m: 1e6, g: 1e9 };
  // Numbers that count nothing.
  const PLAIN = new Set(["trial", "duplicate_of"]);

  class TrialTable {
    constructor(place, study, index) {
      Object.assign(this, { place, study, index, page: 0, sorted: 1, ascending: !study.maximize });
      this.size = study.state.length;
      this.columns = study.columns.map(([key, heading, values]) => ({ key, heading, values }));
      const text = (key, heading, of) => ({ key, heading, of });
      this.columns.splice(1, 0, text("state", "state", (row) => study.states[study.state[row]]));
      if (study.workers.some(Boolean)) this.columns.push(text("worker", "worker", (row) => study.workers[study.worker[row]]));
      this.columns.push(text("structure", "structure", (row) => window.zenopt.structure(study, row)));
      this.sorted = this.columns.findIndex((column) => column.key === "score");
      this.rows = Array.from({ length: this.size }, (_, row) => row);
      this.build();
      this.update();
    }

    build() {
      const keys = this.columns.map((column) => column.key);
      this.filter = element("input", { type: "search", placeholder: "Filter, e.g. state=candidate params<500k K7", "aria-label": "Filter trials" });
      this.filter.title = `Words, and comparisons (< > =) of ${keys.join(", ")}`;
      this.note = element("span", { class: "faint" });
      this.back = element("button", { type: "button" }, "Back");
      this.next = element("button", { type: "button" }, "Next");
      this.csv = element("button", { type: "button", title: "All columns of the trials that the filter leaves" }, "Save as CSV");
      const bar = element("div", { class: "bar" }, this.filter, this.note, this.back, this.next, this.csv);
      this.head = element("tr", {});
      this.columns.forEach((column, index) => {
        const button = element("button", { type: "button", class: "sort" }, column.heading);
        button.addEventListener("click", () => this.sortBy(index));
        this.head.append(element("th", { scope: "col" }, button));
      });
      this.body = element("tbody", {});
      const table = element("table", {}, element("thead", {}, this.head), this.body);
      this.place.replaceChildren(bar, element("div", { class: "scroll" }, table));
      let waiting = 0;
      this.filter.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => { this.page = 0; this.update(); }, 150); });
      this.back.addEventListener("click", () => { this.page -= 1; this.show(); });
      this.next.addEventListener("click", () => { this.page += 1; this.show(); });
      this.csv.addEventListener("click", () => this.save());
      this.body.addEventListener("click", (event) => {
        const row = event.target.closest("tr");
        if (row) window.zenopt.openTrial(this.index, Number(row.dataset.trial));
      });
    }

    value(column, row) {
      return column.of ? column.of(row) : column.values[row];
    }

    sortBy(index) {
      this.ascending = this.sorted === index ? !this.ascending : Boolean(this.columns[index].of) || index === 0;
      this.sorted = index;
      this.page = 0;
      this.update();
    }

    // Returns a test of a row for each term, or a sentence about the term that is none.
    tests() {
      const found = [];
      for (const term of this.filter.value.trim().split(/\s+/).filter(Boolean)) {
        const parts = /^([\w ]+?)(<=|>=|<|>|=)(.*)$/.exec(term);
        if (!parts) {
          const word = term.toLowerCase();
          const texts = this.columns.filter((column) => column.of);
          found.push((row) => texts.some((column) => column.of(row).toLowerCase().includes(word)));
          continue;
        }
        const column = this.columns.find((own) => own.key.toLowerCase() === parts[1].toLowerCase());
        if (!column) return `No column ${parts[1]}; columns are ${this.columns.map((own) => own.key).join(", ")}.`;
        if (column.of) {
          if (parts[2] !== "=") return `${column.key} is text: only = compares it.`;
          const word = parts[3].toLowerCase();
          found.push((row) => column.of(row).toLowerCase().includes(word));
          continue;
        }
        const amount = /^(-?[\d.]+(?:e[+-]?\d+)?)([kmg]?)$/i.exec(parts[3]);
        if (!amount) return `${parts[3] || "Nothing"} is no number.`;
        const limit = Number(amount[1]) * (UNITS[amount[2].toLowerCase()] || 1);
        const compare = {
          "<": (x) => x < limit, ">": (x) => x > limit, "=": (x) => x === limit, "<=": (x) => x <= limit, ">=": (x) => x >= limit,
        }[parts[2]];
        found.push((row) => column.values[row] !== null && compare(column.values[row]));
      }
      return found;
    }

    update() {
      const tests = this.tests();
      this.problem = typeof tests === "string" ? tests : "";
      this.rows = [];
      for (let row = 0; row < this.size; row++) if (this.problem || tests.every((test) => test(row))) this.rows.push(row);
      const column = this.columns[this.sorted];
      const sign = this.ascending ? 1 : -1;
      const keys = new Array(this.size);
      for (const row of this.rows) keys[row] = this.value(column, row);
      // What has no value stands last, whatever the order.
      this.rows.sort((a, b) => {
        const x = keys[a], y = keys[b];
        if (x === y) return a - b;
        if (x === null) return 1;
        if (y === null) return -1;
        return x < y ? -sign : sign;
      });
      this.show();
    }

    show() {
      const pages = Math.max(1, Math.ceil(this.rows.length / PAGE));
      this.page = Math.min(Math.max(0, this.page), pages - 1);
      this.columns.forEach((column, index) => {
        const order = index === this.sorted ? (this.ascending ? "ascending" : "descending") : "none";
        this.head.children[index].setAttribute("aria-sort", order);
      });
      const first = this.page * PAGE;
      const shown = this.rows.slice(first, first + PAGE);
      this.body.replaceChildren(...shown.map((row) => this.line(row)));
      this.note.textContent = this.problem || (this.rows.length
        ? `${first + 1} to ${first + shown.length} of ${this.rows.length.toLocaleString("en-US")} trials`
        : "No trial is left.");
      this.note.className = this.problem ? "bad" : "faint";
      this.back.disabled = this.page === 0;
      this.next.disabled = this.page >= pages - 1;
    }

    line(row) {
      const line = element("tr", { "data-trial": this.study.columns[0][2][row] });
      for (const column of this.columns) {
        const value = this.value(column, row);
        line.append(element("td", column.key === "structure" ? { class: "long" } : {}, column.of ? value : PLAIN.has(column.key) ? String(value ?? "-") : window.zenopt.number(value)));
      }
      return line;
    }

    save() {
      const quote = (value) => {
        const text = value === null ? "" : String(value);
        return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
      };
      const lines = [this.columns.map((column) => quote(column.key)).join(",")];
      for (const row of this.rows) lines.push(this.columns.map((column) => quote(this.value(column, row))).join(","));
      window.zenopt.save(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }), `${this.study.name}-trials.csv`);
    }
  }

  window.zenopt.makeTables = function () {
    for (const place of document.querySelectorAll("[data-trials]")) {
      const index = Number(place.dataset.trials);
      place.table = new TrialTable(place, window.zenopt.studies[index], index);
    }
  };
})();
