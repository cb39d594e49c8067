// The plan viewer: one decision of a recorded episode at a time. Data: m3pc_ray/report/plans/section.py.
(() => {
  const MISSING = 65535, STEPS = 65534, PAST = 4;
  const SCALE = [[76, 111, 208], [31, 161, 135], [240, 160, 0]]; // low, middle, high utility; seen on light and dark
  const SVG = "http://www.w3.org/2000/svg";

  const make = (name, attributes = {}, parent = null, text = null) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== null) element.textContent = text;
    if (parent) parent.appendChild(element);
    return element;
  };
  const html = (name, className, parent, text = "") => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text) element.textContent = text;
    parent.appendChild(element);
    return element;
  };
  // 16-bit codes in base64 to values; `ranges` has one [low, high] an entry of a row.
  const unpack = (text, ranges) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer), values = new Float64Array(bytes.length / 2);
    for (let i = 0; i < values.length; i++) {
      const code = view.getUint16(2 * i, true), [low, high] = ranges[i % ranges.length];
      values[i] = code === MISSING ? NaN : low + (code / STEPS) * (high - low);
    }
    return values;
  };
  const colour = (share) => {
    const place = Math.min(Math.max(share, 0), 1) * (SCALE.length - 1), index = Math.min(Math.floor(place), SCALE.length - 2);
    const mixed = SCALE[index].map((value, i) => Math.round(value + (place - index) * (SCALE[index + 1][i] - value)));
    return `rgb(${mixed.join(",")})`;
  };
  const show = (value, digits = 3) => {
    if (value === null || !Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    if (size >= 1000) return Math.round(value).toLocaleString("en");
    return size !== 0 && size < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(digits)));
  };
  const ticks = (low, high, most) => {
    const power = 10 ** Math.floor(Math.log10((high - low) / most)), rough = (high - low) / most / power;
    const step = power * [1, 2, 5, 10].find((size) => size >= rough - 1e-9), found = [];
    for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-9; tick += step) found.push(Math.abs(tick) < step / 1e6 ? 0 : tick);
    const decimals = Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9)));
    const texts = found.map((tick) => tick.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }));
    return found.map((tick, index) => [tick, texts[index]]);
  };
  const path = (points) => {
    let text = "", open = false;
    for (const [x, y] of points) {
      if (!Number.isFinite(y)) { open = false; continue; }
      text += `${open ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
      open = true;
    }
    return text;
  };

  // Axes of one picture; x and y map values to pixels.
  const frame = (parent, title, xs, ys, width, height, xTicks = null, xLabel = "") => {
    const left = 46, right = 10, top = 8, bottom = xLabel ? 34 : 22;
    const figure = html("figure", "chart", parent);
    html("h3", "", figure, title);
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title }, figure);
    const pad = (ys[1] - ys[0]) * 0.05 || 0.5, low = ys[0] - pad, high = ys[1] + pad;
    const x = (value) => left + ((value - xs[0]) / (xs[1] - xs[0] || 1)) * (width - left - right);
    const y = (value) => top + ((high - value) / (high - low)) * (height - top - bottom);
    for (const [tick, text] of ticks(low, high, 4)) {
      make("line", { class: "plan-grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }, svg);
      make("text", { class: "plan-tick", x: left - 5, y: y(tick) + 3.5, "text-anchor": "end" }, svg, text);
    }
    for (const [tick, text] of xTicks || ticks(xs[0], xs[1], 6)) {
      const anchor = x(tick) > width - right - 12 && text.length > 2 ? "end" : "middle";
      make("text", { class: "plan-tick", x: anchor === "end" ? width - 1 : x(tick), y: height - bottom + 14, "text-anchor": anchor }, svg, text);
    }
    if (xLabel) make("text", { class: "plan-tick", x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, svg, xLabel);
    return { svg, x, y, left, right: width - right, top, bottom: height - bottom, width, height };
  };

  const start = (root) => {
    const data = JSON.parse(document.getElementById(`data-${root.closest("section").id}`).textContent);
    const find = (name) => root.querySelector(`.plan-${name}`);
    const { about, moments, episode } = data, steps = moments.map((moment) => moment.step);
    const kinds = {
      states: { ...data.states, size: data.states.names.length, played: unpack(episode.states, data.states.ranges) },
      actions: { ...data.actions, size: data.actions.names.length, played: unpack(episode.actions, data.actions.ranges) },
    };
    const rewards = unpack(episode.rewards, episode.rewardRange), returns = new Float64Array(rewards.length);
    rewards.forEach((reward, step) => { returns[step] = reward + (step ? returns[step - 1] : 0); });
    const length = rewards.length, narrow = () => root.clientWidth < 520;
    const shown = { states: new Set(data.states.shown), actions: new Set([...Array(Math.min(3, kinds.actions.size)).keys()]) };
    const cache = new Map();
    let at = 0;

    const values = (index) => {
      if (!cache.has(index)) {
        const moment = moments[index], found = {};
        for (const [name, kind] of Object.entries(kinds)) {
          const word = name.slice(0, -1), capital = name[0].toUpperCase() + name.slice(1);
          found[name] = {
            lines: unpack(moment[name], kind.ranges),
            bands: unpack(moment[`${word}Bands`], kind.ranges),
            planned: unpack(moment[`planned${capital}`], kind.ranges),
            carried: moment[`carried${capital}`] ? unpack(moment[`carried${capital}`], kind.ranges) : null,
          };
        }
        if (cache.size > 8) cache.clear();
        cache.set(index, found);
      }
      return cache.get(index);
    };

    const setting = about.settings, critic = about.planner === "critic";
    const end = about.terminated ? "the task ended it" : about.truncated ? "to the time limit" : "cut there";
    find("facts").textContent =
      `${about.environment}, ${critic ? "M³PC-Q (critic)" : "M³PC-M (return)"}, seed ${about.seed}: ${length} steps (${end}), return ${show(about.return, 5)}` +
      (about.score === null ? "" : `, score ${about.score.toFixed(1)}`) +
      `. ${data.candidates} candidates, ` +
      (about.deterministic ? `averaged (${setting.average.replaceAll("_", " ")})` : "one drawn") +
      `, λ\u00a0${setting.td_lambda}, discount\u00a0${about.discount}.`;

    // ---- the episode, and where in it we are
    let markers = [], timelineX = null;
    const drawTimeline = () => {
      const holder = find("timeline");
      holder.replaceChildren();
      markers = [];
      const width = narrow() ? 380 : 1000, xs = [0, Math.max(length, 1)];
      const add = (title, numbers, height) => {
        const low = Math.min(...numbers, 0), high = Math.max(...numbers);
        const axes = frame(holder, title, xs, [low, high], width, height);
        make("path", { class: "plan-series", d: path([...numbers].map((value, step) => [axes.x(step + 1), axes.y(value)])) }, axes.svg);
        const marker = make("g", { class: "plan-marker" }, axes.svg);
        make("line", { y1: axes.top, y2: axes.bottom }, marker);
        markers.push({ marker, axes });
        const pick = (event) => {
          const box = axes.svg.getBoundingClientRect(), x = ((event.clientX - box.left) / box.width) * width;
          const step = ((x - axes.left) / (axes.right - axes.left)) * xs[1];
          go(steps.reduce((best, value, index) => (Math.abs(value - step) < Math.abs(steps[best] - step) ? index : best), 0));
        };
        axes.svg.addEventListener("pointerdown", (event) => { axes.svg.setPointerCapture(event.pointerId); pick(event); });
        axes.svg.addEventListener("pointermove", (event) => { if (event.buttons) pick(event); });
      };
      add("return so far", returns, narrow() ? 110 : 130);
      add("reward", rewards, narrow() ? 90 : 110);
    };

    // ---- one entry of a state or an action
    const panel = (holder, name, entry) => {
      const moment = moments[at], kind = kinds[name], mine = values(at)[name], isState = name === "states";
      const first = isState ? 1 : 0, count = isState ? moment.horizon - 1 : moment.horizon, size = kind.size;
      const now = moment.step, before = Math.min(PAST, now), number = moment.lines.length;
      const read = (array, row, ahead) => array[(row * count + ahead) * size + entry];
      const real = (step) => (step * size + entry < kind.played.length ? kind.played[step * size + entry] : NaN);
      const all = [];
      for (let ahead = -before; ahead < first + count; ahead++) all.push(real(now + ahead));
      for (let row = 0; row < number; row++) for (let ahead = 0; ahead < count; ahead++) all.push(read(mine.lines, row, ahead));
      for (let ahead = 0; ahead < count; ahead++) { all.push(read(mine.planned, 0, ahead)); if (mine.carried) all.push(read(mine.carried, 0, ahead)); }
      const finite = all.filter(Number.isFinite), width = 380, height = 230;
      const xs = [-before, Math.max(first + count - 1, 1)], xTicks = [];
      for (let tick = xs[0]; tick <= xs[1]; tick++) xTicks.push([tick, String(tick)]);
      const axes = frame(holder, kind.names[entry], xs, [Math.min(...finite), Math.max(...finite)], width, height, xTicks, "steps from the decision");
      const { svg, x, y } = axes, current = isState ? real(now) : NaN;
      const line = (array, row) => {
        const points = isState ? [[x(0), y(current)]] : [];
        for (let ahead = 0; ahead < count; ahead++) points.push([x(first + ahead), y(read(array, row, ahead))]);
        if (points.length > 1 || isState) return points;
        return points.flatMap(([px, py]) => [[px - 6, py], [px + 6, py]]); // a single action: a dash
      };
      const area = (lower, upper) => {
        const above = line(mine.bands, upper), below = line(mine.bands, lower).reverse();
        make("path", { class: "plan-band", d: `${path([...above, ...below].map(([px, py]) => [px, py]))}Z` }, svg);
      };
      if (count > 0) { area(0, 4); area(1, 3); }
      make("line", { class: "plan-now-line", x1: x(0), x2: x(0), y1: axes.top, y2: axes.bottom }, svg);
      for (let row = 0; row < number; row++) {
        const share = (moment.utilities[row] - moment.lowest) / (moment.highest - moment.lowest || 1);
        make("path", { class: "plan-candidate", d: path(line(mine.lines, row)), stroke: colour(share) }, svg);
      }
      const drawn = moment.lines.indexOf(moment.chosen);
      make("path", { class: "plan-chosen", d: path(line(mine.planned, 0)) }, svg);
      if (drawn >= 0) make("path", { class: "plan-chosen-core", d: path(line(mine.lines, drawn)), stroke: colour((moment.utilities[drawn] - moment.lowest) / (moment.highest - moment.lowest || 1)) }, svg);
      if (mine.carried) make("path", { class: "plan-carried", d: path(line(mine.carried, 0)) }, svg);
      const happened = [];
      for (let ahead = -before; ahead < first + count; ahead++) happened.push([x(ahead), y(real(now + ahead))]);
      make("path", { class: "plan-happened", d: path(happened) }, svg);
      for (const [px, py] of happened) if (Number.isFinite(py)) make("circle", { class: "plan-dot", cx: px, cy: py, r: 2.4 }, svg);
    };

    const drawPanels = () => {
      for (const name of ["states", "actions"]) {
        const holder = find(`${name.slice(0, -1)}-panels`);
        holder.replaceChildren();
        for (const entry of [...shown[name]].sort((a, b) => a - b)) panel(holder, name, entry);
      }
    };

    const chips = (name) => {
      const holder = find(`${name.slice(0, -1)}-names`);
      kinds[name].names.forEach((text, entry) => {
        const label = html("label", "plan-chip", holder), box = html("input", "", label);
        box.type = "checkbox";
        box.checked = shown[name].has(entry);
        html("span", "", label, text);
        box.addEventListener("change", () => {
          if (box.checked) shown[name].add(entry); else shown[name].delete(entry);
          drawPanels();
        });
      });
    };

    // ---- utilities and errors
    const drawBelow = () => {
      const moment = moments[at], holder = find("below"), bins = moment.counts.length;
      holder.replaceChildren();
      const wide = moment.highest - moment.lowest || 1, most = Math.max(...moment.counts);
      const axes = frame(holder, "utilities of all candidates", [moment.lowest, moment.lowest + wide], [0, most], 380, 230, null, "utility (eq. 3)");
      moment.counts.forEach((count, bin) => {
        const from = axes.x(moment.lowest + (wide * bin) / bins), to = axes.x(moment.lowest + (wide * (bin + 1)) / bins);
        const top = axes.y(count), base = axes.y(0);
        make("rect", { x: from + 0.5, width: Math.max(to - from - 1, 0.5), y: top, height: base - top, fill: colour((bin + 0.5) / bins), class: "plan-bar" }, axes.svg);
      });
      const heaviest = Math.max(...moment.mass);
      make("path", { class: "plan-mass", d: path(moment.mass.map((mass, bin) => [axes.x(moment.lowest + (wide * (bin + 0.5)) / bins), axes.y((mass / heaviest) * most)])) }, axes.svg);
      const drawn = moment.lines.indexOf(moment.chosen), worth = drawn >= 0 ? moment.utilities[drawn] : moment.plannedUtility;
      const place = axes.x(Math.min(Math.max(worth, moment.lowest), moment.lowest + wide));
      make("line", { class: "plan-worth", x1: place, x2: place, y1: axes.top, y2: axes.bottom }, axes.svg);
      html("p", "plan-caption", holder.lastChild, "bars: how many candidates; line: their share of the probability; upright: the chosen sequence");

      const ahead = moment.error.length, lines = [["plan-happened", moment.error], ["plan-carried", moment.carriedError]].filter(([, numbers]) => numbers);
      const finite = lines.flatMap(([, numbers]) => numbers).filter((value) => value !== null);
      if (finite.length) {
        const xTicks = [...Array(ahead).keys()].map((index) => [index + 1, String(index + 1)]);
        const errors = frame(holder, "prediction error of the chosen sequence", [1, Math.max(ahead, 2)], [0, Math.max(...finite)], 380, 230, xTicks, "steps from the decision");
        for (const [style, numbers] of lines) {
          const points = numbers.map((value, index) => [errors.x(index + 1), value === null ? NaN : errors.y(value)]);
          make("path", { class: style, d: path(points) }, errors.svg);
          for (const [px, py] of points) if (Number.isFinite(py)) make("circle", { class: `${style} plan-filled`, cx: px, cy: py, r: 2.6 }, errors.svg);
        }
        html("p", "plan-caption", holder.lastChild, "root mean square over all entries of the state, in standard deviations of the data");
      }
    };

    const drawNumbers = () => {
      const moment = moments[at], list = find("numbers"), carried = moment.carriedError;
      list.replaceChildren();
      const add = (name, text) => { const cell = html("div", "", list); html("dt", "", cell, name); html("dd", "", cell, text); };
      add("utility: lowest, mean, highest", [moment.lowest, moment.mean, moment.highest].map((value) => show(value, 4)).join(" · "));
      add("utility's spread", show(moment.spread));
      add("chosen sequence, predicted utility", show(moment.plannedUtility, 4));
      add(moment.chosen >= 0 ? "probability of the candidate drawn" : "largest probability", show(moment.chosenProbability ?? moment.largestProbability));
      add("effective number of candidates", `${show(moment.effective)} of ${data.candidates}`);
      add("error 1 step ahead (std)", show(moment.error[0] ?? null));
      if (carried && carried.length > 1) add(`error ${carried.length} ahead: replanned, carried out`, `${show(moment.error.at(-1) ?? null)} · ${show(carried.at(-1) ?? null)}`);
    };

    const drawKeys = () => {
      const holder = find("keys");
      const sample = (style, text, stroke = null) => {
        const key = html("span", "plan-key", holder), svg = make("svg", { viewBox: "0 0 30 10", width: 30, height: 10, "aria-hidden": "true" }, key);
        make("path", { class: style, d: "M1 5L29 5", ...(stroke ? { stroke } : {}) }, svg);
        html("span", "", key, text);
      };
      const key = html("span", "plan-key", holder);
      html("span", "", key, "utility: lowest");
      const bar = html("span", "plan-scale", key);
      bar.style.background = `linear-gradient(to right, ${[0, 0.25, 0.5, 0.75, 1].map(colour).join(",")})`;
      html("span", "", key, "highest");
      sample("plan-chosen", about.deterministic ? "chosen: the candidates' average" : "chosen: the candidate drawn");
      sample("plan-happened", "what then happened (planned anew each step)");
      if (moments.some((moment) => moment.carriedError)) sample("plan-carried", "the chosen sequence carried out");
      const band = html("span", "plan-key", holder);
      html("span", "plan-band-sample", band);
      html("span", "", band, "5–95 % and 25–75 % of all candidates");
    };

    // ---- the body, as it was and as planned
    const LIMBS = ["#44546a", "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377"];
    const drawBodies = () => {
      const holder = find("bodies"), bodies = data.bodies;
      holder.replaceChildren();
      if (!bodies) return;
      const moment = moments[at], capsules = bodies.radii.length, count = moment.horizon;
      const numbers = unpack(bodies.packed[at], bodies.ranges);
      const point = (kind, ahead, capsule, tip) => { const i = (((kind * count + ahead) * capsules + capsule) * 2 + tip) * 2; return [numbers[i], numbers[i + 1]]; };
      const figure = html("figure", "chart", holder);
      html("h3", "", figure, "the body: as it then was, and as planned (amber lines)");
      const row = html("div", "plan-strip", figure), thick = Math.max(...bodies.radii);
      let low = [Infinity, Infinity], high = [-Infinity, -Infinity];
      const centre = (ahead) => { const a = point(0, ahead, 0, 0), b = point(0, ahead, 0, 1); return (a[0] + b[0]) / 2; };
      for (let ahead = 0; ahead < count; ahead++) {
        const middle = Number.isFinite(centre(ahead)) ? centre(ahead) : 0;
        for (let kind = 0; kind < 2; kind++) for (let c = 0; c < capsules; c++) for (let tip = 0; tip < 2; tip++) {
          const [px, py] = point(kind, ahead, c, tip);
          if (!Number.isFinite(px)) continue;
          low = [Math.min(low[0], px - middle - thick), Math.min(low[1], py - thick)];
          high = [Math.max(high[0], px - middle + thick), Math.max(high[1], py + thick)];
        }
      }
      if (bodies.ground !== null) low[1] = Math.min(low[1], bodies.ground - 0.02);
      const width = high[0] - low[0], height = high[1] - low[1];
      for (let ahead = 0; ahead < count; ahead++) {
        const cell = html("div", "plan-body", row), middle = Number.isFinite(centre(ahead)) ? centre(ahead) : 0;
        const svg = make("svg", { viewBox: `${low[0]} ${-high[1]} ${width} ${height}`, role: "img", "aria-label": `the body ${ahead} steps from the decision` }, cell);
        if (bodies.ground !== null) make("line", { class: "plan-ground", x1: low[0], x2: high[0], y1: -bodies.ground, y2: -bodies.ground }, svg);
        const draw = (kind) => bodies.limbs.map((limb, c) => [limb, c]).sort((a, b) => b[0] - a[0]).forEach(([limb, c]) => {
          const [a, b] = [point(kind, ahead, c, 0), point(kind, ahead, c, 1)];
          if (!Number.isFinite(a[0])) return;
          const place = { d: `M${a[0] - middle} ${-a[1]}L${b[0] - middle + 1e-4} ${-b[1]}`, "stroke-linecap": "round" };
          if (kind === 0) make("path", { ...place, stroke: LIMBS[limb % LIMBS.length], "stroke-width": 2 * bodies.radii[c], class: "plan-limb" }, svg);
          else make("path", { ...place, class: "plan-bone", "stroke-width": Math.max(thick * 0.4, width / 90) }, svg);
        });
        draw(0);
        draw(1);
        html("span", "", cell, ahead ? `+${ahead}` : "now");
      }
    };

    const slider = find("slider");
    slider.max = moments.length - 1;
    const go = (index) => {
      at = Math.min(Math.max(index, 0), moments.length - 1);
      slider.value = at;
      const step = steps[at], sofar = step ? returns[step - 1] : 0;
      const text = `step ${step} of ${length}, return so far ${show(sofar, 4)}`;
      find("now").textContent = text;
      slider.setAttribute("aria-valuetext", text);
      for (const { marker, axes } of markers) marker.setAttribute("transform", `translate(${axes.x(step)} 0)`);
      drawNumbers();
      drawPanels();
      drawBelow();
      drawBodies();
    };
    slider.addEventListener("input", () => go(Number(slider.value)));
    find("previous").addEventListener("click", () => go(at - 1));
    find("next").addEventListener("click", () => go(at + 1));
    root.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by || event.altKey || event.ctrlKey || event.metaKey || event.target === slider) return;
      event.preventDefault();
      go(at + by);
    });
    root.tabIndex = 0;
    let wasNarrow = narrow();
    new ResizeObserver(() => { if (narrow() !== wasNarrow) { wasNarrow = narrow(); drawTimeline(); go(at); } }).observe(root);
    drawTimeline();
    drawKeys();
    chips("states");
    chips("actions");
    const asked = new RegExp(`[#&]${root.closest("section").id}=(\\d+)`).exec(location.hash);
    go(asked ? Math.max(0, steps.findLastIndex((step) => step <= Number(asked[1]))) : 0);
  };
  document.querySelectorAll(".plan-view").forEach(start);
})();
