"use strict";
// Ball-and-stick movies on canvas.  Every .movies element holds one group of
// movies as JSON; the group shares its clock, orientation and zoom.
for (const group of document.querySelectorAll(".movies")) {
  const movies = JSON.parse(group.querySelector("script").textContent);
  for (const { frames } of movies) { // centre every frame
    for (const frame of frames) {
      const mean = [0, 1, 2].map((k) => frame.reduce((s, p) => s + p[k], 0) / frame.length);
      for (const p of frame) p.forEach((x, k) => { p[k] = x - mean[k]; });
    }
  }
  const end = Math.max(...movies.map((m) => m.times_ps.at(-1)));
  const view = { turn: [1, 0, 0, 0, 1, 0, 0, 0, 1], zoom: 1, time: 0, playing: false, speed: 1 };
  const element = (tag, name, parent, text = "") => {
    const e = document.createElement(tag);
    if (name) e.className = name;
    e.textContent = text;
    parent.append(e);
    return e;
  };

  // ---- page elements
  const stage = element("div", "stage", group);
  const panels = movies.map((movie) => {
    const box = element("div", "movie", stage);
    const head = element("div", "movie-head", box);
    const title = element("div", "movie-title " + movie.role, head, movie.role + " ");
    element("span", "", title, movie.title);
    const clock = element("div", "clock", head);
    const canvas = element("canvas", "", box);
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `3D view, ${movie.role}, ${movie.title}. ${movie.caption}`);
    const caption = element("p", "movie-caption" + (movie.failed ? " failed" : ""), box, movie.caption);
    return { movie, clock, canvas, caption };
  });
  const controls = element("div", "controls", group);
  const button = element("button", "", controls, "Play");
  button.type = "button";
  const slider = element("input", "", controls);
  Object.assign(slider, { type: "range", min: 0, max: 1000, step: 1, value: 0 });
  slider.setAttribute("aria-label", "time");
  const speed = element("select", "", controls);
  speed.setAttribute("aria-label", "speed");
  for (const s of [0.1, 0.25, 0.5, 1, 2]) element("option", "", speed, `${s}×`).value = s;
  speed.value = 1;
  element("p", "hint", controls, "Drag to turn; click a molecule, then scroll to zoom; double-click to reset.");

  // ---- geometry: principal axes of the first frame face the viewer
  const first = movies[0].frames[0];
  const reach = Math.max(...first.map((p, i) => Math.hypot(...p) + movies[0].radii[i]));
  const multiply = (a, b) => a.map((_, k) => {
    const i = 3 * Math.floor(k / 3), j = k % 3;
    return a[i] * b[j] + a[i + 1] * b[3 + j] + a[i + 2] * b[6 + j];
  });
  const rotate = (dx, dy) => {
    const [a, b, c, d] = [Math.cos(dx), Math.sin(dx), Math.cos(dy), Math.sin(dy)];
    view.turn = multiply([1, 0, 0, 0, c, -d, 0, d, c], multiply([a, 0, b, 0, 1, 0, -b, 0, a], view.turn));
  };
  const axis = (exclude) => { // direction of largest extent by power iteration
    let v = [0.9, 0.35, 0.25];
    for (let n = 0; n < 60; n++) {
      let w = [0, 0, 0];
      for (const p of first) {
        const s = p[0] * v[0] + p[1] * v[1] + p[2] * v[2];
        w = w.map((x, k) => x + s * p[k]);
      }
      const o = exclude ? w.reduce((s, x, k) => s + x * exclude[k], 0) : 0;
      if (exclude) w = w.map((x, k) => x - o * exclude[k]);
      const norm = Math.hypot(...w);
      if (norm < 1e-9) return exclude ? [-exclude[1], exclude[0], 0] : [1, 0, 0];
      v = w.map((x) => x / norm);
    }
    return v;
  };
  const reset = () => {
    const x = axis(null), y = axis(x);
    const z = [x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]];
    view.turn = [...x, ...y, ...z];
    view.zoom = 1;
    rotate(0.35, 0.3);
  };

  // ---- drawing
  const shade = (rgb, f) => `rgb(${rgb.map((c) => Math.round(f < 1 ? c * f : c + (255 - c) * (f - 1)))})`;
  const frameAt = (movie, time) => {
    let low = 0, high = movie.times_ps.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (movie.times_ps[middle] <= time + 1e-9) low = middle; else high = middle - 1;
    }
    return low;
  };
  const draw = ({ movie, clock, canvas, caption }) => {
    const index = frameAt(movie, view.time), frame = movie.frames[index];
    const last = index === movie.frames.length - 1;
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const scale = (0.46 * Math.min(width, height) * view.zoom) / reach, m = view.turn, far = 5 * reach;
    const project = ([x, y, z]) => {
      const s = scale * (far / Math.max(far - z, 0.2 * far));
      return { x: width / 2 + s * x, y: height / 2 - s * y, z, s };
    };
    const turned = frame.map((p) => [0, 3, 6].map((k) => m[k] * p[0] + m[k + 1] * p[1] + m[k + 2] * p[2]));
    const radii = movie.radii.map((r) => 0.38 * Math.sqrt(r));
    const parts = turned.map((p, i) => ({ ...project(p), radius: radii[i], color: movie.colors[i] }));
    movie.bonds.forEach(([i, j], k) => {
      const along = turned[j].map((x, c) => x - turned[i][c]), length = Math.hypot(...along) || 1e-9;
      const stretched = Math.abs(length - movie.bond_lengths[k]) > movie.threshold || (last && movie.failed && k === movie.failed_bond);
      // Each half belongs to one atom and starts just inside its surface.
      for (const [atom, sign] of [[i, 1], [j, -1]]) {
        const at = (d) => turned[atom].map((x, c) => x + (sign * d * along[c]) / length);
        const inner = 0.92 * radii[atom], outer = 0.505 * length;
        if (outer > inner) parts.push({ from: project(at(inner)), to: project(at(outer)), z: at(0.5 * (inner + outer))[2], color: movie.colors[atom], stretched });
      }
    });
    parts.sort((p, q) => p.z - q.z);
    const alarm = getComputedStyle(group).getPropertyValue("--alarm").trim();
    const stroke = (part, thickness, style, opacity = 1) => {
      pen.globalAlpha = opacity;
      pen.strokeStyle = style;
      pen.lineWidth = thickness * part.from.s;
      pen.beginPath();
      pen.moveTo(part.from.x, part.from.y);
      pen.lineTo(part.to.x, part.to.y);
      pen.stroke();
      pen.globalAlpha = 1;
    };
    for (const part of parts) {
      if (part.from) {
        if (part.stretched) stroke(part, 0.42, alarm, 0.25);
        stroke(part, 0.2, part.stretched ? alarm : shade(part.color, 0.5));
        if (!part.stretched) stroke(part, 0.13, shade(part.color, 0.88));
      } else {
        const { x, y, color } = part, r = part.radius * part.s;
        const ball = pen.createRadialGradient(x - 0.35 * r, y - 0.38 * r, 0.08 * r, x, y, r);
        ball.addColorStop(0, shade(color, 1.75));
        ball.addColorStop(0.45, shade(color, 0.98));
        ball.addColorStop(1, shade(color, 0.56));
        pen.fillStyle = ball;
        pen.beginPath();
        pen.arc(x, y, r, 0, 2 * Math.PI);
        pen.fill();
      }
    }
    const t = movie.times_ps[index];
    clock.textContent = t < 1 ? `${Math.round(1000 * t)} fs` : `${t.toFixed(3)} ps`;
    if (last && movie.failed) clock.textContent = "failed at " + clock.textContent;
    clock.classList.toggle("failed", last && movie.failed);
    caption.classList.toggle("shown", last);
  };
  const redraw = () => {
    panels.forEach(draw);
    slider.value = end > 0 ? (1000 * view.time) / end : 0;
    button.textContent = view.playing ? "Pause" : view.time >= end ? "Replay" : "Play";
  };

  // ---- time: the whole movie takes 14 s at 1×
  let before = 0;
  const tick = (now) => {
    if (!view.playing) return;
    view.time = Math.min(end, view.time + (Math.min(now - before, 100) / 14000) * end * view.speed);
    before = now;
    if (view.time >= end) view.playing = false;
    redraw();
    requestAnimationFrame(tick);
  };
  const play = (on) => {
    view.playing = on && end > 0;
    if (on && view.time >= end) view.time = 0;
    before = performance.now();
    redraw();
    requestAnimationFrame(tick);
  };

  // ---- interaction
  button.addEventListener("click", () => play(!view.playing));
  speed.addEventListener("change", () => { view.speed = Number(speed.value); });
  slider.addEventListener("input", () => {
    view.playing = false;
    view.time = (Number(slider.value) / 1000) * end;
    redraw();
  });
  for (const { canvas } of panels) {
    let drag = null; // pointer position of the last event; movementX is unreliable on touch
    canvas.addEventListener("pointerdown", (e) => {
      drag = [e.clientX, e.clientY];
      canvas.setPointerCapture(e.pointerId);
    });
    canvas.addEventListener("pointermove", (e) => {
      if (!drag) return;
      rotate((e.clientX - drag[0]) * 0.01, (e.clientY - drag[1]) * 0.01);
      drag = [e.clientX, e.clientY];
      redraw();
    });
    for (const stop of ["pointerup", "pointercancel"]) canvas.addEventListener(stop, () => { drag = null; });
    canvas.addEventListener("wheel", (e) => {
      if (document.activeElement !== canvas && !e.ctrlKey) return; // let the page scroll
      e.preventDefault();
      view.zoom = Math.min(6, Math.max(0.3, view.zoom * Math.exp(-e.deltaY * 0.0015)));
      redraw();
    }, { passive: false });
    canvas.addEventListener("dblclick", () => { reset(); redraw(); });
    canvas.addEventListener("keydown", (e) => {
      const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[e.key];
      if (!step) return;
      e.preventDefault();
      rotate(...step);
      redraw();
    });
    new ResizeObserver(redraw).observe(canvas);
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("beforeprint", () => { // paper shows the moment of the failure
    view.playing = false;
    view.time = movies.find((m) => m.failed)?.times_ps.at(-1) ?? end;
    redraw();
  });
  reset();
  redraw();
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) {
    const once = new IntersectionObserver((entries) => {
      if (entries.some((e) => e.isIntersecting)) { once.disconnect(); play(true); }
    }, { threshold: 0.5 });
    once.observe(stage);
  }
}
