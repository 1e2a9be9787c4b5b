/* Tables of data: a click or Enter on a column's name sorts by it, a link saves the table as TSV. */
(() => {
  "use strict";
  const NEXT = { none: "ascending", ascending: "descending", descending: "none" };
  const make = (tag, text, className) => Object.assign(document.createElement(tag), { textContent: text, className });

  const words = (cell) => (cell ? cell.textContent.trim().replace(/\s+/g, " ") : "");
  const number = (text) => parseFloat(text.replace("< ", "").replace("−", "-"));
  const missing = (text) => ["", "–"].includes(text);

  function compare(a, b, numeric, sign) {
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    return sign * (numeric ? number(a) - number(b) : a.localeCompare(b, "en", { numeric: true }));
  }

  function sort(body, rows, column, direction) {
    const texts = new Map(rows.map((row) => [row, words(row.cells[column])]));
    const numeric = [...texts.values()].every((text) => missing(text) || /^(< )?[-−+]?\.?\d/.test(text));
    const sign = direction === "descending" ? -1 : 1;
    const order = [...rows];
    if (direction !== "none") order.sort((a, b) => compare(texts.get(a), texts.get(b), numeric, sign));
    body.append(...order);
  }

  function equip(table) {
    const [head, body] = [table.tHead, table.tBodies[0]];
    if (!head || !body) return;
    const rows = [...body.rows];
    [...head.rows[head.rows.length - 1].cells].forEach((cell, column) => {
      const button = make("button", words(cell) || "⇅", "tle-sort");
      button.type = "button";
      if (!words(cell)) button.setAttribute("aria-label", "name of the row");
      cell.setAttribute("aria-sort", "none");
      cell.replaceChildren(button);
      button.addEventListener("click", () => {
        const direction = NEXT[cell.getAttribute("aria-sort")];
        table.querySelectorAll("[aria-sort]").forEach((other) => other.setAttribute("aria-sort", "none"));
        cell.setAttribute("aria-sort", direction);
        sort(body, rows, column, direction);
      });
    });
  }

  // The file is named after the page, and its link says which of the tables it holds.
  function name(link, i) {
    const page = location.pathname.split("/").pop().replace(/\.html$/, "");
    link.download = `${page}_table_${i + 1}.tsv`;
    link.setAttribute("aria-label", `Download table ${i + 1} of this page as TSV`);
  }

  document.querySelectorAll("table.dataframe").forEach(equip);
  document.querySelectorAll(".tle-table > a[download]").forEach(name);
})();
