// The scene's cloud with the selected object, its box and the cameras.
//
// The page may run beside the node, without a graphics card. So it is drawn when something changes
// and not all the time; the scene goes into a picture of its own, with depth, onto which an object
// is drawn that was selected; and while the view moves, as many points as the machine can draw.
import { THREE, OrbitControls } from "nicegui-scene";

const FRAME = 50; // ms that a picture may take while the view moves
const FEWEST = 30000; // points that are drawn then, at least
const CLICK = 4; // CSS pixels that a click may move
const GROUND = 0x14171c;
const OWN = 0.35; // share of a selected point's own colour

const BEHIND = `
  out vec2 at;
  void main() { at = position.xy * 0.5 + 0.5; gl_Position = vec4(position.xy, 0.0, 1.0); }`;
const PICTURE = `
  uniform sampler2D picture, depth;
  uniform float dim;
  in vec2 at;
  out vec4 shown;
  void main() {
    shown = vec4(texture(picture, at).rgb * dim, 1.0);
    gl_FragDepth = texture(depth, at).r;
  }`;

export default {
  template: `
    <div class="ws-cloud" @contextmenu.prevent>
      <canvas ref="canvas"></canvas>
      <div class="ws-note" v-if="note">{{ note }}</div>
    </div>`,

  props: {
    src: String,
    selected: { type: String, default: null },
    box: { type: Array, default: null },
    cameras: { type: Array, default: () => [] },
    up: { type: Array, default: () => [0, 0, 1] },
    size: { type: Number, default: 0.004 },
    focus: { type: Array, default: null },
    negative: Boolean,
    further: Boolean,
    showcameras: Boolean,
    robot: { type: Array, default: () => [] },
  },

  data: () => ({ note: "" }),

  mounted() {
    try {
      this.renderer = new THREE.WebGLRenderer({ canvas: this.$refs.canvas, antialias: false });
    } catch {
      this.note = "This browser cannot draw in 3D (no WebGL). Images and lists work all the same.";
      return;
    }
    THREE.ColorManagement.enabled = false; // images' colours are shown as they are
    this.renderer.outputColorSpace = THREE.LinearSRGBColorSpace;
    this.renderer.setClearColor(GROUND);
    this.renderer.setPixelRatio(Math.min(window.devicePixelRatio, 1.5));
    this.scene = new THREE.Scene();
    this.overlay = new THREE.Scene();
    this.target = new THREE.WebGLRenderTarget(1, 1, { depthTexture: new THREE.DepthTexture(1, 1) });
    this.picture = new THREE.ShaderMaterial({
      glslVersion: THREE.GLSL3, vertexShader: BEHIND, fragmentShader: PICTURE, depthFunc: THREE.AlwaysDepth,
      uniforms: { picture: { value: this.target.texture }, depth: { value: this.target.depthTexture }, dim: { value: 1 } },
    });
    const behind = new THREE.Mesh(new THREE.PlaneGeometry(2, 2), this.picture);
    behind.frustumCulled = false;
    behind.renderOrder = -1;
    this.overlay.add(behind);
    this.camera = new THREE.PerspectiveCamera(50, 1, 0.01, 100);
    this.share = 1;
    this.resizer = new ResizeObserver(() => this.resize());
    this.resizer.observe(this.$el);
    this.listen();
    this.loadScene();
    this.drawCameras();
    this.drawRobot();
    this.$refs.canvas.addEventListener("webglcontextrestored", () => this.draw());
  },

  beforeUnmount() {
    this.resizer?.disconnect();
    this.controls?.dispose();
    this.target?.dispose();
    this.renderer?.dispose();
  },

  watch: {
    src: "loadScene",
    selected: "loadSelected",
    box: "drawBox",
    cameras: { handler: "drawCameras", deep: true },
    showcameras: "drawCameras",
    robot: "drawRobot",
  },

  methods: {
    now() {
      return performance.timeOrigin + performance.now(); // as the images' elements count
    },

    // ---- data
    async fetchCloud(url) {
      const answer = await fetch(url);
      if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
      const bytes = await answer.arrayBuffer();
      const count = bytes.byteLength / 15;
      const geometry = new THREE.BufferGeometry();
      const places = new Float32Array(bytes, 0, 3 * count);
      geometry.setAttribute("position", new THREE.BufferAttribute(places, 3));
      geometry.setAttribute("color", new THREE.BufferAttribute(new Uint8Array(bytes, 12 * count), 3, true));
      return geometry;
    },
    points(geometry, grown) {
      const material = new THREE.PointsMaterial({ size: this.size * grown, vertexColors: true });
      const points = new THREE.Points(geometry, material);
      points.frustumCulled = false;
      return points;
    },
    replace(name, object, scene = this.overlay) {
      const before = this[name];
      if (before) {
        scene.remove(before);
        before.traverse((part) => {
          part.geometry?.dispose();
          part.material?.dispose();
        });
      }
      this[name] = object;
      if (object) scene.add(object);
    },
    async loadScene() {
      if (!this.renderer || !this.src) return;
      const wanted = this.src;
      this.note = this.cloud ? "" : "Loading the cloud …";
      try {
        const geometry = await this.fetchCloud(wanted);
        if (wanted !== this.src) return;
        this.note = geometry.attributes.position.count ? "" : "There are no points yet.";
        this.replace("cloud", this.points(geometry, 1.0), this.scene);
        if (!this.controls) this.lookAtAll();
        this.loadSelected();
        this.draw();
      } catch {
        this.note = "The cloud could not be loaded; reload the page.";
      }
    },
    async loadSelected() {
      if (!this.renderer || this.selected === this.loadedSelected) return;
      const wanted = (this.loadedSelected = this.selected);
      const told = this.now();
      if (!wanted) {
        this.replace("object", null);
        this.drawOver();
        return;
      }
      try {
        const geometry = await this.fetchCloud(wanted);
        if (wanted !== this.selected) return;
        const fetched = this.now();
        const colors = geometry.attributes.color.array;
        const chosen = this.chosen().toArray().map((part) => 255 * (1 - OWN) * part);
        for (let k = 0; k < colors.length; k++) colors[k] = colors[k] * OWN + chosen[k % 3];
        geometry.setDrawRange(0, FEWEST); // the rest follows
        const object = this.points(geometry, 1.25);
        // The same points are in the scene's picture: those of the object win.
        object.material.onBeforeCompile = (shader) => {
          const nearer = `mvPosition.z += ${this.size.toFixed(6)}; gl_Position = projectionMatrix * mvPosition;`;
          shader.vertexShader = shader.vertexShader.replace("#include <project_vertex>", `$&\n${nearer}`);
        };
        object.material.customProgramCacheKey = () => String(this.size);
        this.replace("object", object);
        this.drawNow();
        this.finish();
        this.$emit("shown", { url: wanted, told, fetched, ended: this.now() });
        geometry.setDrawRange(0, Infinity);
        this.drawOver();
      } catch {
        this.loadedSelected = null;
      }
    },
    drawBox() {
      if (!this.renderer) return;
      let lines = null;
      if (this.box) {
        const ends = [];
        for (let a = 0; a < 8; a++)
          for (const bit of [1, 2, 4])
            if (!(a & bit)) ends.push(...this.box[a], ...this.box[a | bit]);
        lines = this.lines(ends, this.chosen());
        lines.material.depthTest = false; // what is before it must not hide where it ends
        lines.renderOrder = 1;
      }
      this.replace("edges", lines);
      this.drawOver();
    },
    // The style's colour of what is selected.
    chosen() {
      return new THREE.Color(getComputedStyle(this.$el).getPropertyValue("--chosen").trim());
    },
    lines(ends, color) {
      const geometry = new THREE.BufferGeometry();
      geometry.setAttribute("position", new THREE.Float32BufferAttribute(ends, 3));
      return new THREE.LineSegments(geometry, new THREE.LineBasicMaterial({ color }));
    },
    drawCameras() {
      if (!this.renderer) return;
      const group = new THREE.Group();
      for (const each of this.showcameras ? this.cameras : []) {
        const [w, h] = [each.right, each.bottom];
        const corners = [[-w, -h], [w, -h], [w, h], [-w, h]].map(([x, y]) => [x * each.depth, y * each.depth, each.depth]);
        const ends = [];
        corners.forEach((corner, k) => ends.push(0, 0, 0, ...corner, ...corner, ...corners[(k + 1) % 4]));
        const frustum = this.lines(ends, each.color);
        frustum.add(this.lines([0, 0, 0, each.depth / 2, 0, 0], 0xff4a4a));
        frustum.add(this.lines([0, 0, 0, 0, each.depth / 2, 0], 0x4ade5a));
        frustum.add(this.lines([0, 0, 0, 0, 0, each.depth / 2], 0x4a8cff));
        frustum.matrixAutoUpdate = false;
        frustum.matrix.set(...each.pose);
        group.add(frustum);
      }
      this.replace("frustums", group);
      this.drawOver();
    },
    // Links are made once and moved; they let the cloud shine through.
    drawRobot() {
      if (!this.renderer) return;
      const made = JSON.stringify(this.robot.map((link) => [link.kind, link.half]));
      if (made !== this.madeRobot) {
        this.madeRobot = made;
        const group = new THREE.Group();
        for (const { kind, half } of this.robot) {
          const [x, y, z] = half.map((each) => 2 * each);
          const solid = {
            box: () => new THREE.BoxGeometry(x, y, z),
            sphere: () => new THREE.SphereGeometry(half[0], 24, 16),
            cylinder: () => new THREE.CylinderGeometry(half[0], half[0], z, 24).rotateX(Math.PI / 2),
          }[kind]();
          const link = new THREE.Mesh(solid, new THREE.MeshLambertMaterial({ color: 0x9fb8dc, transparent: true, opacity: 0.5 }));
          link.matrixAutoUpdate = false;
          group.add(link);
        }
        const light = new THREE.HemisphereLight(0xffffff, 0x404850, 3);
        light.position.set(...this.up);
        group.add(light);
        this.replace("links", this.robot.length ? group : null);
      }
      this.robot.forEach(({ pose }, k) => {
        this.links.children[k].matrix.set(...pose);
        this.links.children[k].matrixWorldNeedsUpdate = true;
      });
      this.drawOver();
    },

    // ---- view
    resize() {
      const { clientWidth, clientHeight } = this.$el;
      if (!clientWidth || !clientHeight || this.resized === `${clientWidth} ${clientHeight}`) return;
      this.resized = `${clientWidth} ${clientHeight}`;
      this.renderer.setSize(clientWidth, clientHeight, false);
      this.camera.aspect = clientWidth / clientHeight;
      this.camera.updateProjectionMatrix();
      const size = this.renderer.getDrawingBufferSize(new THREE.Vector2());
      this.target.setSize(size.x, size.y);
      this.outdated = true;
      this.drawNow();
    },
    steer(target) {
      this.controls?.dispose();
      this.controls = new OrbitControls(this.camera, this.$refs.canvas);
      this.controls.target.copy(target);
      this.controls.addEventListener("change", () => this.draw(true));
      this.controls.update();
    },
    // Middle and reach of what there is to see: the objects, else most of the points.
    extent() {
      if (this.focus) return [new THREE.Vector3(...this.focus.slice(0, 3)), this.focus[3]];
      const places = this.cloud.geometry.attributes.position.array;
      const step = 3 * Math.max(1, Math.floor(places.length / 3 / 5000));
      const axes = [[], [], []];
      for (let k = 0; k + 2 < places.length; k += step)
        for (let axis = 0; axis < 3; axis++) axes[axis].push(places[k + axis]);
      const at = (share) => axes.map((axis) => axis.sort((a, b) => a - b)[Math.floor(share * (axis.length - 1))]);
      const [low, middle, high] = [at(0.05), at(0.5), at(0.95)].map((p) => new THREE.Vector3(...p));
      return [middle, Math.max(high.distanceTo(low) / 2, 1e-3)];
    },
    lookAtAll() {
      if (!this.cloud?.geometry.attributes.position.count) return;
      const [middle, reach] = this.extent();
      this.camera.up.set(...this.up);
      const first = this.cameras[0]?.pose;
      const away = first ? new THREE.Vector3(first[3], first[7], first[11]).sub(middle) : new THREE.Vector3(0, -1, 1);
      this.camera.position.copy(middle).add(away.setLength(2.6 * reach));
      this.camera.near = reach / 50;
      this.camera.far = reach * 100;
      this.camera.updateProjectionMatrix();
      this.steer(middle);
      this.draw();
    },
    lookThrough(index) {
      const pose = this.cameras[index]?.pose;
      if (!pose || !this.cloud) return;
      const [middle] = this.extent();
      this.camera.position.set(pose[3], pose[7], pose[11]);
      const forward = new THREE.Vector3(pose[2], pose[6], pose[10]);
      const distance = Math.max(middle.sub(this.camera.position).dot(forward), 0.1);
      this.camera.up.set(...this.up);
      this.steer(this.camera.position.clone().addScaledVector(forward, distance));
      this.draw();
    },

    // ---- drawing
    // The scene is seen from elsewhere, or is another one.
    draw(moving) {
      this.moving = moving;
      this.outdated = true;
      this.drawOver();
    },
    // What lies over the picture of the scene is another.
    drawOver() {
      if (this.asked) return;
      this.asked = true;
      requestAnimationFrame(() => this.drawNow());
    },
    drawNow() {
      this.asked = false;
      if (!this.renderer || !this.$el.clientWidth) return;
      const began = performance.now();
      if (this.outdated) {
        this.outdated = false;
        clearTimeout(this.rest);
        // Points are in random order: the first ones are the cloud, thinned.
        const geometry = this.cloud?.geometry;
        const count = geometry?.attributes.position.count ?? 0;
        geometry?.setDrawRange(0, this.moving ? Math.ceil(this.share * count) : count);
        this.renderer.setRenderTarget(this.target);
        this.renderer.render(this.scene, this.camera);
        this.renderer.setRenderTarget(null);
      }
      this.picture.uniforms.dim.value = this.object ? 0.45 : 1;
      this.renderer.render(this.overlay, this.camera);
      this.pictures = (this.pictures ?? 0) + 1;
      if (!this.moving) return;
      this.finish();
      const fits = FRAME / Math.max(performance.now() - began, 1);
      const fewest = FEWEST / this.cloud.geometry.attributes.position.count;
      this.share = Math.min(1, Math.max(this.share * Math.min(fits, 1.5), fewest));
      this.rest = setTimeout(() => this.draw(), 200);
    },
    // Waits until all is drawn.
    finish() {
      const gl = this.renderer.getContext();
      gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
    },

    // ---- clicks
    listen() {
      const canvas = this.$refs.canvas;
      let pressed = null;
      canvas.addEventListener("pointerdown", (event) => {
        pressed = event.isPrimary ? event : null;
      });
      canvas.addEventListener("pointerup", (event) => {
        const start = pressed;
        pressed = null;
        if (!start || !this.cloud) return;
        if (Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) > CLICK) return;
        const area = canvas.getBoundingClientRect();
        const x = ((event.clientX - area.left) / area.width) * 2 - 1;
        const y = 1 - ((event.clientY - area.top) / area.height) * 2;
        const ray = new THREE.Raycaster();
        ray.setFromCamera({ x, y }, this.camera);
        const pixel = (2 * Math.tan((this.camera.fov * Math.PI) / 360)) / area.height;
        this.$emit("ray", {
          origin: ray.ray.origin.toArray(),
          direction: ray.ray.direction.toArray(),
          slope: pixel * (event.pointerType === "touch" ? 10 : 4),
          on: !(event.shiftKey || start.button === 2 || this.negative),
          further: event.ctrlKey || event.metaKey || this.further,
          began: performance.timeOrigin + performance.now(),
        });
      });
    },
  },
};
