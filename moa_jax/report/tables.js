(() => {
  "use strict";
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    const number = text === "" ? NaN : Number(text.replace(/[,\s%]/g, ""));
    return { text, number };
  };
  const compare = (a, b, sign) => {
    const isNumber = !Number.isNaN(a.number) && !Number.isNaN(b.number);
    if (isNumber) return sign * (a.number - b.number);
    const empty = (x) => x.text === "" || x.text === "\u2013";
    if (empty(a) !== empty(b)) return empty(a) ? 1 : -1;
    return sign * a.text.localeCompare(b.text, undefined, { numeric: true });
  };
  const sortable = (table) => {
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const before = header.getAttribute("aria-sort");
        const first = header.classList.contains("text") || column === 0 ? 1 : -1;
        const sign = before === null ? first : before === "ascending" ? -1 : 1;
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        header.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        const body = table.tBodies[0];
        const keyed = [...body.rows].map((row) => [value(row, column), row]);
        keyed.sort((a, b) => compare(a[0], b[0], sign));
        body.append(...keyed.map((pair) => pair[1]));
      });
    });
  };
  /* As many as the style shows of a folded table. */
  const FIRST = 200;
  const filterable = (box, table) => {
    const tools = document.createElement("div");
    tools.className = "tools";
    const label = document.createElement("label");
    const input = document.createElement("input");
    input.type = "search";
    label.append("Filter ", input);
    tools.append(label);
    const only = document.createElement("input");
    only.type = "checkbox";
    const rows = [...table.tBodies[0].rows];
    if (rows.some((row) => row.dataset.confident)) {
      const which = document.createElement("label");
      which.append(only, " only confident");
      tools.append(which);
    }
    const status = document.createElement("span");
    status.setAttribute("role", "status");
    tools.append(status);
    let isWhole = !box.classList.contains("folded");
    const more = document.createElement("button");
    more.type = "button";
    more.textContent = "Show all";
    tools.append(more);
    const texts = rows.map((row) => row.textContent.toLowerCase());
    const show = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const isFolded = !isWhole && words.length === 0 && !only.checked;
      let count = 0;
      rows.forEach((row, index) => {
        const fits = words.every((word) => texts[index].includes(word));
        row.hidden = !fits || (only.checked && !row.dataset.confident);
        count += row.hidden ? 0 : 1;
      });
      box.classList.toggle("folded", isFolded);
      more.hidden = !isFolded;
      const shown = isFolded ? `the first ${FIRST}` : count;
      status.textContent = `${shown} of ${rows.length} shown`;
    };
    more.addEventListener("click", () => {
      isWhole = true;
      show();
      input.focus();
    });
    input.addEventListener("input", show);
    only.addEventListener("change", show);
    box.before(tools);
    show();
  };
  for (const box of document.querySelectorAll(".sortable")) {
    const table = box.querySelector("table");
    sortable(table);
    filterable(box, table);
  }
})();
