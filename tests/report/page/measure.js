// What a page shows: marks of every chart, text that is too small, width. A function of the smallest size of text, pixels.
(smallest) => {
  const rgb = (text) => {
    const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    probe.fillStyle = text;
    probe.fillRect(0, 0, 1, 1);
    return [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const style = getComputedStyle(document.documentElement);
  const colours = [...Array(9).keys()]
    .map((number) => style.getPropertyValue(`--series-${number}`).trim())
    .filter(Boolean)
    .map(rgb);
  const near = (data, at) =>
    colours.some((colour) => colour.reduce((sum, part, place) => sum + Math.abs(part - data[at + place]), 0) < 24);

  // Pixels of the series' colours; axes and grid have others.
  const pixels = (canvas) => {
    if (!canvas.width || !canvas.height) return 0;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let found = 0;
    for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 60 && near(data, at)) found++;
    return found;
  };
  const shapes = (svg) =>
    [...svg.querySelectorAll("path, circle, rect, polyline, line")].filter((mark) => {
      const box = mark.getBoundingClientRect();
      return box.width + box.height > 0;
    }).length;
  const total = (elements, count) => [...elements].reduce((sum, element) => sum + count(element), 0);
  const charts = [...document.querySelectorAll("figure.chart")].map((figure) => ({
    name: `${figure.closest("section").id}: ${figure.querySelector("h3")?.textContent ?? "untitled"}`,
    marks: total(figure.querySelectorAll("canvas"), pixels) + total(figure.querySelectorAll("svg"), shapes),
  }));

  const small = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || ["SCRIPT", "STYLE"].includes(parent.tagName) || !parent.getClientRects().length) continue;
    const size = parseFloat(getComputedStyle(parent).fontSize);
    if (size < smallest) small.add(`${size} px: ${text.slice(0, 40)}`);
  }
  const page = document.documentElement;
  return { charts, small: [...small], width: page.scrollWidth, room: page.clientWidth };
}
