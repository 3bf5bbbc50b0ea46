// Browsers start no workers for pages opened from disk: an invisible frame stands in for one.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(script) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.title = "search";
      document.body.appendChild(this.frame);
      const inside = this.frame.contentDocument;
      inside.open();
      inside.write(`<script>postMessage = message => parent.postMessage(message, "*")<\/script><script src="${script}"><\/script>`);
      inside.close();
      this.ready = new Promise(done => this.frame.contentWindow.addEventListener("load", done));
      window.addEventListener("message", event => {
        if (event.source !== this.frame.contentWindow) return;
        const heard = new MessageEvent("message", { data: event.data });
        this.dispatchEvent(heard);
        if (this.onmessage) this.onmessage(heard);
      });
    }
    postMessage(message) {
      const send = window.postMessage;
      this.ready.then(() => send.call(this.frame.contentWindow, message, "*"));
    }
    terminate() { this.frame.remove(); }
  };
  window.Worker = window.IFrameWorker;
}
