// Draws every `figure.chart` of the page with uPlot from the charts in its section's data (charts.py says their form).
(() => {
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (number, opacity) =>
    css(`--series-${number}`) + Math.round(255 * (opacity ?? 1)).toString(16).padStart(2, "0"); // #rrggbbaa
  const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';

  const digits = (value) => {
    const size = Math.abs(value);
    if (size >= 1000) return Math.round(value).toLocaleString("en-GB");
    if (size >= 100) return value.toFixed(0);
    if (size >= 10) return value.toFixed(1);
    return size === 0 ? "0" : String(Number(value.toPrecision(3)));
  };
  // An axis' number: 500, 2.5k, 1.5M, 0.02.
  const short = (value) => {
    for (const [size, unit] of [[1e6, "M"], [1e3, "k"]]) {
      if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(4))}${unit}`;
    }
    return String(Number(value.toPrecision(4)));
  };

  // Columns of one chart: every series has an x of its own; its interval's ends become two undrawn columns of a band.
  function columns(spec) {
    const tables = [], series = [{ label: spec.x }], bands = [];
    const add = (x, y, options) => (tables.push([x, y]), series.push({ scale: "y", spanGaps: true, ...options }));
    for (const each of spec.series) {
      const main = series.length, companions = [];
      const value = (u, v, index, at) => {
        if (at == null || v == null) return "–";
        const around = companions.length ? [main + 1, main + 2].map((i) => u.data[i][at]) : [];
        return around.length && around.every((end) => end != null)
          ? `${digits(v)} (${digits(around[0])} to ${digits(around[1])})` : digits(v);
      };
      const options = { label: each.label, value, companions };
      if (each.faint) Object.assign(options, { class: "companion", stroke: colour(each.colour, 0.45), width: 1 });
      else Object.assign(options, { stroke: colour(each.colour), width: each.marks ? 0 : 2 });
      if (each.dash) Object.assign(options, { dash: [6, 5], width: 1.5 });
      options.points = { show: Boolean(each.points || each.marks), size: each.faint ? 4 : 6, fill: options.stroke };
      if (each.bars) {
        Object.assign(options, { fill: colour(each.colour, 0.55), width: 1, paths: uPlot.paths.bars({ align: 1, size: [1, 1e6], gap: 1 }), points: { show: false } });
      }
      if (each.marks) options.paths = () => null;
      add(each.x, each.y, options);
      if (each.low) {
        const hidden = { class: "companion", stroke: "transparent", width: 0, points: { show: false } };
        add(each.x, each.low, hidden);
        add(each.x, each.high, hidden);
        companions.push(main + 1, main + 2);
        if (each.marks) series[main].whiskers = [main + 1, main + 2];
        else bands.push({ series: [main + 2, main + 1], fill: colour(each.colour, 0.16) });
      }
      if (each.of !== undefined) series[each.of + 1 + offset(spec, each.of)].companions.push(main);
    }
    return { data: uPlot.join(tables), series, bands };
  }
  // Columns that intervals of earlier series have put before series `place`.
  const offset = (spec, place) => spec.series.slice(0, place).reduce((sum, each) => sum + (each.low ? 2 : 0), 0);

  function whiskers(u) {
    const { ctx } = u;
    u.series.forEach((series, index) => {
      if (!series.whiskers || !series.show) return;
      ctx.save();
      ctx.strokeStyle = typeof series.stroke === "function" ? series.stroke(u, index) : series.stroke;
      ctx.lineWidth = 2 * devicePixelRatio;
      const [low, high] = series.whiskers.map((column) => u.data[column]);
      u.data[0].forEach((x, at) => {
        if (low[at] == null || high[at] == null) return;
        const px = u.valToPos(x, "x", true);
        ctx.beginPath();
        ctx.moveTo(px, u.valToPos(low[at], "y", true));
        ctx.lineTo(px, u.valToPos(high[at], "y", true));
        ctx.stroke();
      });
      ctx.restore();
    });
  }

  // A hovered x may be another series' own: show each series' nearest value.
  function nearest(u, seriesIndex, hovered) {
    const values = u.data[seriesIndex];
    if (values[hovered] != null) return hovered;
    for (let away = 1; away < values.length; away++) {
      if (values[hovered - away] != null) return hovered - away;
      if (values[hovered + away] != null) return hovered + away;
    }
    return hovered;
  }

  const newest = (values) => {
    for (let at = values.length - 1; at >= 0; at--) if (values[at] != null) return at;
    return null;
  };

  function draw(holder, spec) {
    const { data, series, bands } = columns(spec);
    const axis = { stroke: css("--muted"), font: FONT, labelFont: FONT, labelSize: 18, grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1, size: 5 } };
    const ticks = spec.ticks && { splits: () => spec.ticks.map((tick) => tick[0]), values: () => spec.ticks.map((tick) => tick[1]) };
    const height = () => spec.height || (holder.clientWidth < 430 ? 220 : 270);
    series[0].value = (u, v) => (v == null ? "–" : spec.ticks ? (spec.ticks.find((tick) => tick[0] === v) || ["", digits(v)])[1] : digits(v));
    const chart = new uPlot({
      width: holder.clientWidth, height: height(), series, bands,
      scales: {
        x: { time: false, ...(spec.x_range && { range: () => spec.x_range }) },
        y: { ...(spec.logarithmic && { distr: 3 }), ...(spec.y_range && { range: () => spec.y_range }), ...(spec.from_zero && { range: (u, low, high) => [0, high > 0 ? 1.08 * high : 1] }) },
      },
      axes: [
        { ...axis, label: spec.x, size: 30, values: (u, at) => at.map((v) => (v == null ? "" : short(v))), ...ticks },
        { ...axis, label: spec.y, size: 52, values: (u, at) => at.map((v) => (v == null ? "" : short(v))) },
      ],
      cursor: { dataIdx: nearest, drag: { x: !spec.ticks, y: false }, points: { size: 7 } },
      legend: { show: spec.legend !== false },
      hooks: {
        draw: [whiskers],
        // Nobody points at the chart: the legend shows what every series came to.
        setCursor: [(u) => u.cursor.idx == null && u.setLegend({ idxs: u.data.map(newest) })],
        ready: [(u) => u.setLegend({ idxs: u.data.map(newest) })],
        setSeries: [(u, index, change) => {
          if (index == null || change.show === undefined) return;
          for (const companion of u.series[index].companions || []) u.setSeries(companion, { show: change.show });
        }],
      },
    }, data, holder);
    return { chart, height };
  }

  const drawn = [];
  for (const figure of document.querySelectorAll("figure.chart")) {
    const holder = figure.querySelector(".plot");
    const spec = JSON.parse(document.getElementById(figure.dataset.from).textContent).charts[figure.dataset.chart];
    const entry = { holder, spec, ...draw(holder, spec) };
    drawn.push(entry);
    new ResizeObserver(() => {
      if (holder.clientWidth && holder.clientWidth !== entry.chart.width) entry.chart.setSize({ width: holder.clientWidth, height: entry.height() });
    }).observe(holder);
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const entry of drawn) {
      entry.chart.destroy();
      Object.assign(entry, draw(entry.holder, entry.spec));
    }
  });
})();
