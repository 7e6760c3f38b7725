// A camera's image with outlines in it. It tells what was clicked, in pixels of the image.
const DRAG = 5; // CSS pixels from which a press is a rectangle and no click

export default {
  template: `
    <div class="ws-camera" ref="frame" @contextmenu.prevent @wheel="wheel"
         @pointerdown="down" @pointermove="move" @pointerup="up" @pointercancel="cancel"
         @pointerleave="pixel = null">
      <div class="ws-canvas" :style="placed">
        <img ref="image" :src="loaded" draggable="false" :alt="name" />
        <svg :viewBox="'0 0 ' + width + ' ' + height" preserveAspectRatio="none">
          <g v-for="each in objects" :key="each.id" :class="{faint: selection !== null}">
            <path :d="each.d" :stroke="each.color" :fill="each.color" fill-opacity="0.10" fill-rule="evenodd" />
          </g>
          <path v-if="selection" class="rim" :d="selection" />
          <path v-if="selection" class="selected" :d="selection" fill-rule="evenodd" />
          <g v-for="each in objects" :key="'t' + each.id" :class="{faint: selection !== null}">
            <text :x="each.u" :y="each.v" :font-size="text">{{ each.name || each.id }}</text>
          </g>
          <g v-for="(each, k) in clicks" :key="'c' + k" :class="each.on ? 'on' : 'off'">
            <circle :cx="each.u + 0.5" :cy="each.v + 0.5" :r="text * 0.42" />
            <path :d="cross(each)" />
          </g>
          <rect v-for="(each, k) in boxes" :key="'b' + k" class="box"
                :x="each[0]" :y="each[1]" :width="each[2] - each[0]" :height="each[3] - each[1]" />
          <rect v-if="drawn" class="box" :x="drawn[0]" :y="drawn[1]"
                :width="drawn[2] - drawn[0]" :height="drawn[3] - drawn[1]" />
        </svg>
      </div>
      <div class="ws-pixel" v-if="pixel">{{ pixel.u }}, {{ pixel.v }}</div>
    </div>`,

  props: {
    name: String,
    src: String,
    width: Number,
    height: Number,
    objects: { type: Array, default: () => [] },
    selection: { type: String, default: null },
    clicks: { type: Array, default: () => [] },
    boxes: { type: Array, default: () => [] },
    negative: Boolean,
    further: Boolean,
    zoomable: Boolean,
  },

  data: () => ({ pixel: null, drawn: null, zoom: 1, left: 0, top: 0, loaded: "" }),

  computed: {
    placed() {
      return { transform: `translate(${this.left}px, ${this.top}px) scale(${this.zoom})` };
    },
    text() {
      return Math.max(this.width / 32, 9) / Math.sqrt(this.zoom);
    },
  },

  watch: {
    src: { immediate: true, handler: "load" },
  },

  methods: {
    // The next image is asked for when this one is on the screen: a slow line or machine skips some.
    load() {
      if (this.loading || !this.src || this.loaded === this.src) return;
      const image = new Image();
      this.loading = true;
      const wanted = this.src;
      const done = () => {
        this.loading = false;
        this.load();
      };
      image.onload = () => {
        this.loaded = wanted;
        requestAnimationFrame(() => requestAnimationFrame(done));
      };
      image.onerror = () => {
        this.loading = false;
        setTimeout(() => this.load(), 1000);
      };
      image.src = wanted;
    },
    cross(each) {
      const [u, v, r] = [each.u + 0.5, each.v + 0.5, this.text * 0.22];
      const line = `M${u - r} ${v}L${u + r} ${v}`;
      return each.on ? line + `M${u} ${v - r}L${u} ${v + r}` : line;
    },
    at(event) {
      const area = this.$refs.image.getBoundingClientRect();
      return [
        ((event.clientX - area.left) / area.width) * this.width,
        ((event.clientY - area.top) / area.height) * this.height,
      ];
    },
    inside([x, y]) {
      return x >= 0 && y >= 0 && x < this.width && y < this.height;
    },
    down(event) {
      const at = this.at(event);
      if (!this.inside(at)) return;
      this.pressed = { x: event.clientX, y: event.clientY, at, button: event.button };
      this.pressed.pan = event.button === 1 || (event.button === 0 && event.altKey);
      this.pressed.origin = [this.left, this.top];
      if (event.pointerType === "mouse") this.$refs.frame.setPointerCapture(event.pointerId);
      if (event.button === 1) event.preventDefault();
    },
    move(event) {
      const at = this.at(event);
      this.pixel = this.inside(at) ? { u: Math.floor(at[0]), v: Math.floor(at[1]) } : null;
      const pressed = this.pressed;
      if (!pressed || event.pointerType !== "mouse") return;
      const [dx, dy] = [event.clientX - pressed.x, event.clientY - pressed.y];
      if (pressed.pan) {
        this.place(this.zoom, pressed.origin[0] + dx, pressed.origin[1] + dy);
      } else if (pressed.button === 0 && (this.drawn || Math.hypot(dx, dy) > DRAG)) {
        const [a, b] = [pressed.at, at];
        const clip = (value, size) => Math.min(Math.max(value, 0), size);
        this.drawn = [
          clip(Math.min(a[0], b[0]), this.width), clip(Math.min(a[1], b[1]), this.height),
          clip(Math.max(a[0], b[0]), this.width), clip(Math.max(a[1], b[1]), this.height),
        ];
      }
    },
    up(event) {
      const pressed = this.pressed;
      this.pressed = null;
      if (!pressed || pressed.pan) return;
      const began = performance.timeOrigin + performance.now();
      const further = event.ctrlKey || event.metaKey || this.further;
      if (this.drawn) {
        const box = this.drawn;
        this.drawn = null;
        this.$emit("drawn", { box, further, began });
        return;
      }
      if (Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) > 2 * DRAG) return;
      const [u, v] = pressed.at.map(Math.floor);
      const on = !(event.shiftKey || pressed.button === 2 || this.negative);
      this.$emit("clicked", { u, v, on, further, began });
    },
    cancel() {
      this.pressed = this.drawn = null;
    },
    wheel(event) {
      if (!this.zoomable && !event.ctrlKey) return;
      event.preventDefault();
      const area = this.$refs.frame.getBoundingClientRect();
      const [x, y] = [event.clientX - area.left, event.clientY - area.top];
      const zoom = Math.min(Math.max(this.zoom * Math.exp(-event.deltaY / 400), 1), 16);
      const grown = zoom / this.zoom;
      this.place(zoom, x - (x - this.left) * grown, y - (y - this.top) * grown);
    },
    place(zoom, left, top) {
      const area = this.$refs.frame.getBoundingClientRect();
      this.zoom = zoom;
      this.left = Math.min(0, Math.max(left, area.width * (1 - zoom)));
      this.top = Math.min(0, Math.max(top, area.height * (1 - zoom)));
    },
  },
};
