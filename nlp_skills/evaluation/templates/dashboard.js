// Sorting and looking for; without it the table stands as it is, newest first.
const table = document.querySelector("table.tasks"), body = table.tBodies[0];
const key = (row, place) => row.cells[place].dataset.s ?? row.cells[place].textContent.trim();
const empty = (text) => text === "";
const compare = (a, b) => isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
table.querySelectorAll("th[data-sort]").forEach((head) => {
  const button = document.createElement("button");
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const first = head.dataset.sort, now = head.getAttribute("aria-sort");
    const up = now ? now === "descending" : first === "up";
    table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => [key(row, head.cellIndex), row]);
    rows.sort(([a], [b]) => empty(a) - empty(b) || (up ? compare(a, b) : compare(b, a)));
    body.append(...rows.map(([, row]) => row));
  });
});
const box = document.querySelector("#look"), count = document.querySelector("#found");
box.parentElement.hidden = false;
box.addEventListener("input", () => {
  const wanted = box.value.toLowerCase();
  let left = 0;
  for (const row of body.rows) {
    row.hidden = !row.dataset.text.toLowerCase().includes(wanted);
    left += !row.hidden;
  }
  count.textContent = wanted ? left + " / " + body.rows.length : "";
});
