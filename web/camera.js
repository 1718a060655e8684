// camera.js - a picture by the camera, where the browser has one and allows it.

import { el } from "./dom.js";
import { notice } from "./parts.js";

export class Camera {
    // taken(blob): a picture, JPEG
    constructor(taken) {
        this.taken = taken;
        this.stream = null;
        this.video = el("video", { autoplay: true, muted: true, playsinline: true, class: "preview" });
        this.node = el("div", { hidden: true }, this.video, el("div", { class: "actions" },
            el("button", { type: "button", class: "primary", onclick: () => this.take() }, "Take it"),
            el("button", { type: "button", class: "quiet", onclick: () => this.stop() }, "Stop the camera")));
        this.button = el("button", { type: "button", hidden: !navigator.mediaDevices, onclick: () => this.start() }, "Camera");
    }

    async start() {
        try {
            this.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
        } catch {
            notice("There is no camera, or the browser does not allow it. Choose an image instead.", "bad");
            return;
        }
        this.video.srcObject = this.stream;
        this.node.hidden = false;
    }

    stop() {
        this.stream?.getTracks().forEach((track) => track.stop());
        this.stream = null;
        this.node.hidden = true;
    }

    take() {
        const shot = el("canvas", { width: this.video.videoWidth, height: this.video.videoHeight });
        shot.getContext("2d").drawImage(this.video, 0, 0);
        shot.toBlob((blob) => this.taken(blob), "image/jpeg", 0.92);
        this.stop();
    }
}
