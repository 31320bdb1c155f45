// The page's one script. Every list, card and number is HTML of the server; the script fetches parts and puts them in
// their places. No text of an image or of a caption is ever parsed as HTML here.

const find = (selector, root = document) => root.querySelector(selector);
const findAll = (selector, root = document) => [...root.querySelectorAll(selector)];
const say = (words) => { find("[data-said]").textContent = words; };
const PART_SIZE = 60;

async function fetchHtml(url, signal) {
  const response = await fetch(url, { signal, headers: { accept: "text/html" } });
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  return new DOMParser().parseFromString(await response.text(), "text/html");
}

function later(milliseconds, work) {
  let timer = 0;
  return (...values) => { clearTimeout(timer); timer = setTimeout(() => work(...values), milliseconds); };
}

// ---------------------------------------------------------------- the list: parts, far ones emptied

class Feed {
  constructor(root) {
    this.root = root;
    this.controller = new AbortController();
    this.near = new IntersectionObserver((seen) => this.atEnd(seen), { rootMargin: "1800px 0px" });
    this.far = new IntersectionObserver((seen) => seen.forEach((each) => this.moved(each)), { rootMargin: "9000px 0px" });
    this.adopt();
  }

  get url() { return this.root.dataset.url; }
  get parts() { return findAll(".part", this.root); }
  get isAtTop() { return window.scrollY < 400; }

  partUrl(cursor) {
    const url = new URL(this.url, location.href);
    if (cursor) url.searchParams.set("cursor", cursor);
    return url;
  }

  adopt() {
    this.near.disconnect();
    this.far.disconnect();
    this.parts.forEach((part) => this.far.observe(part));
    const more = find("[data-more]", this.root);
    if (more) this.near.observe(more);
  }

  async atEnd(seen) {
    if (!seen.some((each) => each.isIntersecting) || this.isLoading) return;
    const last = this.parts.at(-1);
    this.isLoading = true;
    try {
      const found = await fetchHtml(this.partUrl(last.dataset.next), this.controller.signal);
      const part = find(".part", found);
      last.after(part);
      this.far.observe(part);
      const more = find(".more", this.root);
      if (part.dataset.next) this.near.unobserve(find("[data-more]", more));
      else more.remove();
    } catch (error) {
      if (error.name !== "AbortError") say("Older pictures could not be loaded.");
    } finally {
      this.isLoading = false;
      const more = find("[data-more]", this.root);
      if (more) this.near.observe(more);
    }
  }

  // A part far from the window keeps its height and loses its cards: the page stays small however far a person scrolls.
  async moved({ target, isIntersecting, boundingClientRect }) {
    if (!isIntersecting && !target.dataset.away && target !== this.parts[0]) {
      target.dataset.away = "yes";
      target.style.height = `${boundingClientRect.height}px`;
      target.replaceChildren();
    } else if (isIntersecting && target.dataset.away) {
      delete target.dataset.away;
      const part = find(".part", await fetchHtml(this.partUrl(target.dataset.from), this.controller.signal));
      target.replaceChildren(...part.children);
      target.style.height = "";
    }
  }

  load(url) {
    this.controller.abort();
    this.controller = new AbortController();
    this.root.dataset.url = url;
    this.loading = this.replace(url);
    return this.loading;
  }

  async replace(url) {
    const found = await fetchHtml(url, this.controller.signal);
    if (find(".part", found)?.innerHTML === this.parts[0]?.innerHTML) return;
    // The server knows no images that are being sent, and none that were refused: their cards, without ids, stay.
    const unknown = findAll(".card:not([id])", this.root);
    this.root.replaceChildren(...found.body.childNodes);
    this.adopt();
    const count = findAll(".card", this.root).length;
    say(count ? `${count}${find("[data-more]", this.root) ? " or more" : ""} picture${count === 1 ? "" : "s"}` : "No picture matches");
    unknown.forEach((card) => this.insert(card));
  }

  // Until no list is being loaded: an answer replaces all cards, also newer ones.
  async loaded() {
    for (let last; last !== this.loading;) {
      last = this.loading;
      await last.catch(() => {});
    }
  }

  // Puts a card at its place in the first part; cards beyond the size of a part move on to the next one.
  insert(card) {
    const cards = findAll(".card", this.parts[0]);
    const place = cards.find((each) => Number(each.dataset.order || Infinity) < Number(card.dataset.order || Infinity));
    if (!place && this.parts.length > 1) return;
    find(".cards", this.parts[0]).insertBefore(card, place || null);
    find(".nothing", this.root)?.remove();
    this.shift(this.parts[0]);
  }

  // A part keeps its size: its last cards move on to the next part.
  shift(part) {
    const list = find(".cards", part);
    const next = part.nextElementSibling?.matches(".part") ? part.nextElementSibling : this.split(part);
    if (!next || !list || list.children.length <= PART_SIZE) return;
    next.dataset.from = list.children[PART_SIZE - 1].dataset.cursor ?? "";
    if (next.dataset.away) {
      while (list.children.length > PART_SIZE) list.lastElementChild.remove();
    } else {
      find(".cards", next).prepend(...[...list.children].slice(PART_SIZE));
      this.shift(next);
    }
  }

  // A second part after the only one, which has grown to the size of two.
  split(part) {
    if (find(".cards", part)?.children.length < 2 * PART_SIZE) return null;
    const next = part.cloneNode(false);
    next.append(Object.assign(document.createElement("ul"), { className: "cards", role: "list" }));
    part.dataset.next = "";
    part.after(next);
    this.far.observe(next);
    return next;
  }
}

// ---------------------------------------------------------------- search and filters

function startSearch(feed) {
  const search = find("[data-search]");
  const filters = find("[data-filters]");
  const input = find("input[type=search]", search);
  const apply = async () => {
    find("[data-query]", filters).value = input.value;
    const values = new URLSearchParams([...new FormData(filters)].filter(([, value]) => value));
    for (const field of findAll("select, input[type=text]", filters)) field.classList.toggle("set", Boolean(field.value));
    find("[data-clear]", filters).hidden = !values.size;
    history.replaceState(null, "", values.size ? `/?${values}` : "/");
    window.scrollTo(0, 0);
    try { await feed.load(`/parts/feed?${values}`); } catch (error) { if (error.name !== "AbortError") say("The search failed."); }
  };
  input.addEventListener("input", later(180, apply));
  filters.addEventListener("input", later(180, apply));
  for (const form of [search, filters]) form.addEventListener("submit", (event) => { event.preventDefault(); apply(); });
}

// ---------------------------------------------------------------- live changes

// One connection while the tab is seen: browsers allow six per server, over all tabs.
function listen(changed, caughtUp) {
  let source = null;
  const open = () => {
    if (source) return;
    source = new EventSource("/api/events");
    source.addEventListener("caption", (event) => changed(JSON.parse(event.data)));
    source.addEventListener("reset", caughtUp);
    // Changes between the page and its stream have no event.
    source.addEventListener("open", () => { showState("on", "live"); caughtUp(); });
    source.addEventListener("error", () => {
      showState("off", "connecting");
      // A browser gives up after a refusal (503 in an outage). A random pause: all open pages were refused at once.
      if (source?.readyState === EventSource.CLOSED) { close(); timer = setTimeout(() => document.hidden || open(), 2000 + 4000 * Math.random()); }
    });
  };
  const close = () => { clearTimeout(timer); source?.close(); source = null; };
  let timer = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(close, 30000);
    else open();
  });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  open();
}

function showState(state, words) {
  const light = find("[data-live]");
  if (light) { light.dataset.state = state; light.textContent = words; }
}

// Collects ids and fetches their cards, at most a few times a second, whatever the number of changes.
class Live {
  constructor(feed) {
    this.feed = feed;
    this.ids = new Set();
    this.unseen = 0;
    this.pill = find("[data-arrivals]");
    this.pill?.addEventListener("click", () => this.toTop());
    window.addEventListener("scroll", later(150, () => { if (this.unseen && feed?.isAtTop) this.toTop(); }));
  }

  changed(row) {
    this.ids.add(row.id);
    if (!this.isBusy) this.soon();
  }

  soon() {
    this.isBusy = true;
    setTimeout(async () => {
      try { await this.fetch(); } catch { showState("off", "connecting"); }
      this.isBusy = false;
      if (this.ids.size) this.soon();
    }, 250);
  }

  async fetch() {
    const url = new URL(this.feed ? this.feed.url : "/parts/feed", location.href);
    url.pathname = "/parts/live";
    const asked = [];
    for (const id of this.ids) {
      if (asked.length === 40 || url.href.length > 6000) break;
      asked.push(id);
      url.searchParams.append("id", id);
      this.ids.delete(id);
    }
    const found = await fetchHtml(url);
    showStrip(find("#strip", found));
    if (!this.feed) return;
    await this.feed.loaded();
    // Of the worker in use; a picture's page has that of its own row.
    find("#notice").replaceWith(find("#notice", found));
    const cards = new Map(findAll(".card", found).map((card) => [card.id, card]));
    for (const id of asked) this.show(`c-${id}`, cards.get(`c-${id}`));
  }

  show(id, card) {
    const old = document.getElementById(id);
    if (old && card) keepPicture(old, card);
    if (old) card ? old.replaceWith(card) : old.remove();
    else if (card && this.feed.isAtTop) { card.classList.add("new"); this.feed.insert(card); }
    else if (card) this.count();
    if (card && find(".caption:not(.waits)", card)) say(`New caption: ${find(".caption", card).textContent}`);
  }

  // After a gap, changes are unknown: the list is read again, or its cards that wait, if a person has scrolled down.
  catchUp() {
    if (this.feed?.isAtTop) this.feed.load(this.feed.url).catch(() => {});
    else if (this.feed) findAll(".card:has(.waits)").forEach((card) => this.changed({ id: card.id.slice(2) }));
  }

  count() {
    this.unseen += 1;
    this.pill.textContent = this.unseen === 1 ? "1 new picture" : `${this.unseen} new pictures`;
    this.pill.hidden = false;
  }

  async toTop() {
    this.unseen = 0;
    this.pill.hidden = true;
    await this.feed.load(this.feed.url);
    window.scrollTo({ top: 0 });
  }
}

// The image of a card that changes its words stays: a new element would flicker.
function keepPicture(old, card) {
  const [before, after] = [find("img", old), find("img", card)];
  if (before && after && before.getAttribute("src") === after.getAttribute("src")) { after.replaceWith(before); checkPicture(before); }
}

// ---------------------------------------------------------------- placeholders

// The image of an object that is gone is a placeholder, which loads without an error; boxes over it would mark nothing.
// Its size is that of no copy in the grid. A larger copy may have the size by chance: then the original has it too.
function checkPicture(image) {
  if (!image.matches?.(".frame img, [data-sheet] img") || !image.complete) return;
  const size = `${image.naturalWidth}x${image.naturalHeight}`;
  const original = find("svg.regions", image.parentNode)?.viewBox.baseVal;
  const isPlaceholder = size === document.body.dataset.placeholder && `${original?.width}x${original?.height}` !== size;
  image.parentNode.classList.toggle("without-picture", isPlaceholder);
}

function startPlaceholders() {
  document.addEventListener("load", (event) => checkPicture(event.target), true);
  findAll("img").forEach(checkPicture);
}

// ---------------------------------------------------------------- the strip

let fade = 0;

function showStrip(strip) {
  if (!strip || !find("#strip")) return;
  const light = find("[data-live]");
  find("[data-live]", strip).replaceWith(light);
  find("#strip").replaceWith(strip);
  startStrip();
}

// Between events, time goes on without a request: captions leave the last minute, and the oldest row grows older.
function startStrip() {
  clearTimeout(fade);
  fade = setTimeout(() => { const rate = find("[data-rate]"); if (rate) rate.textContent = "0"; }, 60000);
}

function tick() {
  const age = find("[data-age]");
  const since = Number(find("#strip")?.dataset.oldestAt);
  if (age && since) age.textContent = duration(Date.now() - since);
}

function duration(milliseconds) {
  const seconds = Math.max(0, milliseconds / 1000);
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

// ---------------------------------------------------------------- uploads

class Uploads {
  constructor(feed) {
    this.feed = feed;
    this.waiting = [];
    this.running = 0;
    const files = find("[data-files]");
    const button = find("[data-upload]");
    button.hidden = false;
    button.addEventListener("click", () => files.click());
    files.addEventListener("change", () => { this.add(files.files); files.value = ""; });
    document.addEventListener("paste", (event) => this.paste(event));
    this.watchDrops(find("[data-target]"));
    this.watchDialog(find("[data-open-address]"), find("[data-address]"));
  }

  paste(event) {
    this.add(event.clipboardData?.files ?? []);
    const words = event.clipboardData?.getData("text/plain").trim() ?? "";
    if (/^https?:\/\/\S+$/i.test(words) && !event.target.closest?.("input, textarea")) this.addAddress(words);
  }

  watchDialog(button, dialog) {
    const field = find("input", dialog);
    button.hidden = false;
    button.addEventListener("click", () => { field.value = ""; dialog.returnValue = ""; dialog.showModal(); });
    find("[data-cancel]", dialog).addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => { if (dialog.returnValue === "add") this.addAddress(field.value.trim()); });
  }

  watchDrops(target) {
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    let depth = 0;
    addEventListener("dragenter", (event) => { if (hasFiles(event)) { depth += 1; target.hidden = false; } });
    addEventListener("dragleave", (event) => { if (hasFiles(event)) { depth -= 1; target.hidden = depth > 0 ? target.hidden : true; } });
    addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
    addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      depth = 0;
      target.hidden = true;
      this.add(event.dataTransfer.files);
    });
  }

  add(files) {
    for (const file of files) {
      const form = new FormData();
      form.append("file", file);
      this.waiting.push([form, this.place(file.name, "Uploading", URL.createObjectURL(file))]);
    }
    if (files.length) window.scrollTo({ top: 0 });
    this.next();
  }

  // The gallery fetches the image; a browser could read no other site's.
  addAddress(address) {
    const name = address.replace(/[?#].*/, "").split("/").at(-1) || address;
    this.waiting.push([JSON.stringify({ uri: address }), this.place(name, "Fetching")]);
    window.scrollTo({ top: 0 });
    this.next();
  }

  place(name, words, picture) {
    const card = find("[data-waiting-card]").content.cloneNode(true).firstElementChild;
    const image = find("img", card);
    image.addEventListener("error", () => image.remove());
    if (picture) image.src = picture; else image.remove();
    find(".caption", card).textContent = words;
    find(".name", card).textContent = name;
    this.feed.insert(card);
    return card;
  }

  next() {
    while (this.running < 3 && this.waiting.length) {
      this.running += 1;
      this.send(...this.waiting.shift()).finally(() => { this.running -= 1; this.next(); });
    }
  }

  async send(body, card) {
    try {
      const { id } = await postPatiently(body, (share) => { find("progress", card).value = share; });
      find("progress", card).remove();
      find(".caption", card).textContent = "Waiting";
      // The row may have arrived before the answer.
      const shown = document.getElementById(`c-${id}`);
      if (shown) { keepShown(card, shown); return; }
      card.id = `c-${id}`;
    } catch (error) {
      find("progress", card)?.remove();
      const words = find(".caption", card);
      words.className = "caption bad whole";
      words.textContent = error.message;
      say(`${find(".name", card).textContent}: ${error.message}`);
    }
  }
}

function keepShown(card, shown) {
  card.replaceWith(shown);
}

// A folder of thousands of images is sent as fast as the gallery allows.
async function postPatiently(body, progressed) {
  for (;;) {
    try { return await post(body, progressed); } catch (error) {
      if (!error.retryAfter) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * error.retryAfter));
    }
  }
}

// fetch() has no progress of uploads. The body is a form with a file, or JSON with an address.
function post(body, progressed) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/api/captions");
    if (typeof body === "string") request.setRequestHeader("content-type", "application/json");
    else request.upload.addEventListener("progress", (event) => { if (event.lengthComputable) progressed(event.loaded / event.total); });
    request.responseType = "json";
    request.addEventListener("error", () => reject(new Error("The gallery cannot be reached")));
    request.addEventListener("load", () => {
      if (request.status < 300) resolve(request.response);
      else {
        const error = new Error(request.response?.detail ?? `Upload refused (${request.status})`);
        if (request.status === 429) error.retryAfter = Number(request.getResponseHeader("retry-after")) || 5;
        reject(error);
      }
    });
    request.send(body);
  });
}

// ---------------------------------------------------------------- one picture

class Picture {
  constructor(root) {
    this.root = root;
    this.refresh = later(200, () => this.load());
    root.addEventListener("click", (event) => this.clicked(event.target.closest("button")));
    for (const kind of ["pointerover", "focusin"]) root.addEventListener(kind, (event) => this.point(event.target.closest("[data-region]")));
    const ask = find("[data-ask]", root);
    if (ask) this.startAsking(ask);
    this.fitted = new ResizeObserver(() => this.fitLabels());
    this.fit();
    localTimes(root);
  }

  changed(row) {
    if (row.object_name === this.root.dataset.name && (row.bucket ?? this.root.dataset.bucket) === this.root.dataset.bucket) this.refresh();
  }

  // One load at a time: an older answer must not take the place of a newer one.
  async load() {
    if (this.isLoading) { this.refresh(); return; }
    this.isLoading = true;
    const found = await fetchHtml(location.href).catch(() => null);
    this.isLoading = false;
    if (!found) return;
    for (const id of ["notice", "p-stage", "p-answer", "p-labels", "p-answers", "p-earlier", "p-facts", "p-generations"]) {
      const [old, now] = [document.getElementById(id), found.getElementById(id)];
      if (old && now && old.outerHTML !== now.outerHTML) { if (id === "p-stage") keepPicture(old, now); old.replaceWith(now); }
    }
    const [form, fresh] = [document.getElementById("p-edit"), found.getElementById("p-edit")];
    if (form && fresh && !find("details[open]", form)) form.replaceWith(fresh);
    this.fit();
    localTimes(this.root);
  }

  fit() {
    this.fitted.disconnect();
    const sheet = find("[data-sheet]", this.root);
    if (sheet) this.fitted.observe(sheet);
    this.fitLabels();
  }

  // Labels have one size on the screen, whatever the size of the picture.
  fitLabels() {
    const svg = find("svg.regions", this.root);
    const width = svg?.getBoundingClientRect().width;
    if (!width) return;
    const size = 14 * svg.viewBox.baseVal.width / width;
    const labels = findAll("text", svg);
    const boxes = labels.map((label) => find("polygon", label.parentNode).getBBox());
    const taken = [];
    labels.forEach((label, number) => {
      label.setAttribute("font-size", size);
      const extent = { width: label.getComputedTextLength() + size * 0.4, height: size * 1.3 };
      const others = [...taken, ...boxes.filter((box, index) => index !== number && box.height < size * 4)];
      const place = placeOfLabel(boxes[number], extent, svg.viewBox.baseVal, others);
      label.setAttribute("x", place.x + size * 0.2);
      label.setAttribute("y", place.y + size);
      taken.push(place);
    });
  }

  clicked(button) {
    if (!button) return;
    if (button.dataset.copy) copy(find(button.dataset.copy, this.root).textContent, button);
    if (button.dataset.copyText) copy(button.dataset.copyText, button);
    if ("toggleRegions" in button.dataset) this.toggle(button);
    if (button.dataset.region) this.pick(button);
  }

  toggle(button) {
    const svg = find("svg.regions", this.root);
    const isShown = svg.toggleAttribute("hidden") === false;
    button.setAttribute("aria-pressed", String(isShown));
  }

  pick(button) {
    const isPicked = button.getAttribute("aria-pressed") === "true";
    for (const each of findAll("[data-region]", this.root)) each.setAttribute("aria-pressed", String(each === button && !isPicked));
    this.point(null);
  }

  // Shows the region below the pointer or the focus, else the one that was picked.
  point(button) {
    const svg = find("svg.regions", this.root);
    const shown = button ?? find("[data-region][aria-pressed=true]", this.root);
    if (!svg) return;
    svg.classList.toggle("picked", Boolean(shown));
    [...svg.children].forEach((group, number) => group.classList.toggle("picked", String(number) === shown?.dataset.region));
  }

  startAsking(form) {
    const [task, text, hint] = [form.elements.task, find("[data-text]", form), find("[data-hint]", form)];
    const show = () => {
      const needs = task.selectedOptions[0].dataset.needs;
      text.hidden = needs === "nothing";
      form.elements.text.required = needs !== "nothing";
      form.elements.text.placeholder = needs === "region" ? "<loc_x1><loc_y1><loc_x2><loc_y2>" : "a red car";
      if (needs !== this.needs) form.elements.text.value = "";
      hint.hidden = needs !== "region" || !find("[data-sheet]", this.root);
      this.needs = needs;
    };
    task.addEventListener("input", show);
    show();
    this.root.addEventListener("pointerdown", (event) => { if (this.needs === "region") this.draw(event, form.elements.text); });
  }

  // A box drawn on the picture becomes the four location tokens of a task about a region.
  draw(start, field) {
    const sheet = start.target.closest?.("[data-sheet]");
    if (!sheet) return;
    start.preventDefault();
    const area = sheet.getBoundingClientRect();
    const at = (event) => [[event.clientX - area.left, area.width], [event.clientY - area.top, area.height]].map(([value, size]) => Math.max(0, Math.min(999, Math.round(value / size * 999))));
    const [x, y] = at(start);
    const moved = (event) => {
      const [u, v] = at(event);
      const box = [Math.min(x, u), Math.min(y, v), Math.max(x, u), Math.max(y, v)];
      field.value = box.map((value) => `<loc_${value}>`).join("");
      showBox(sheet, box);
    };
    addEventListener("pointermove", moved);
    addEventListener("pointerup", () => removeEventListener("pointermove", moved), { once: true });
  }
}

// Above the box, below, inside at its top, to its right or left: the first place that is free, else the freest one.
// Other labels, and boxes that a label would hide, are in the way.
function placeOfLabel(box, { width, height }, picture, others) {
  const [right, bottom] = [picture.width - width, picture.height - height];
  const isRoomy = box.height > height * 3;
  const places = [
    [box.x, box.y - height],
    [box.x, box.y + box.height],
    [box.x + box.width, box.y],
    [box.x - width, box.y],
    [box.x, box.y + height * 0.1],
  ];
  if (isRoomy) places.splice(1, 0, places.pop());
  const found = places.map(([x, y]) => {
    const place = { x: Math.max(0, Math.min(x, right)), y: Math.max(0, Math.min(y, bottom)), width, height };
    const own = isRoomy ? 0 : covered(place, box);
    return { ...place, cost: own + others.reduce((sum, other) => sum + covered(place, other), 0) };
  });
  return found.reduce((best, each) => (each.cost < best.cost ? each : best));
}

// The area that two rectangles share.
function covered(one, other) {
  const across = Math.min(one.x + one.width, other.x + other.width) - Math.max(one.x, other.x);
  const down = Math.min(one.y + one.height, other.y + other.height) - Math.max(one.y, other.y);
  return Math.max(0, across) * Math.max(0, down);
}

function showBox(sheet, [left, top, right, bottom]) {
  const box = find(".drawn", sheet) ?? sheet.appendChild(Object.assign(document.createElement("span"), { className: "drawn" }));
  Object.assign(box.style, { left: `${left / 9.99}%`, top: `${top / 9.99}%`, width: `${(right - left) / 9.99}%`, height: `${(bottom - top) / 9.99}%` });
}

async function copy(words, button) {
  try { await navigator.clipboard.writeText(words); } catch { select(button, words); return; }
  const before = button.textContent;
  button.textContent = "Copied";
  say("Copied");
  setTimeout(() => { button.textContent = before; }, 1500);
}

// Without the right to the clipboard, a person copies the selected text.
function select(button, words) {
  const field = Object.assign(document.createElement("textarea"), { value: words, readOnly: true });
  button.after(field);
  field.select();
}

function localTimes(root) {
  for (const time of findAll("time[datetime]", root)) time.textContent = new Date(time.dateTime).toLocaleString();
}

// ---------------------------------------------------------------- keys

// The browser's own way back keeps the place in the list.
function startWayBack() {
  const link = find("[data-back]");
  const before = document.referrer && new URL(document.referrer);
  if (!link || !before || before.origin !== location.origin || before.pathname !== "/") return;
  link.addEventListener("click", (event) => { event.preventDefault(); history.back(); });
}

function startKeys() {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, textarea, select")) return;
    const go = { ArrowLeft: "[data-newer]", ArrowRight: "[data-older]", Escape: "[data-back]" }[event.key];
    if (go && find(go)) { find(go).click(); return; }
    if (event.key === "/") { event.preventDefault(); find("[data-search] input[type=search]").focus(); return; }
    moveFocus(event);
  });
}

// Arrow keys move between the pictures of the grid.
function moveFocus(event) {
  const links = findAll(".card a[href]");
  const at = links.indexOf(document.activeElement);
  if (at < 0) return;
  const columns = Number(getComputedStyle(document.documentElement).getPropertyValue("--columns"));
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
  if (!step || !links[at + step]) return;
  event.preventDefault();
  links[at + step].focus();
  links[at + step].scrollIntoView({ block: "nearest" });
}

// ---------------------------------------------------------------- start

const feedRoot = find("#feed");
const pictureRoot = find("[data-picture]");
const feed = feedRoot && new Feed(feedRoot);
const picture = pictureRoot && new Picture(pictureRoot);
const live = new Live(feed);
if (feed) startSearch(feed);
if (feed && find("[data-upload]")) new Uploads(feed);
startPlaceholders();
startKeys();
startWayBack();
startStrip();
setInterval(tick, 1000);
listen(
  (row) => { picture?.changed(row); if (feed || find("#strip")) live.changed(row); },
  () => { picture?.load(); live.catchUp(); },
);
