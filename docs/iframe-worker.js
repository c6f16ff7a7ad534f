// Browsers start no worker in a page that is opened as a file. There, the worker of the search runs
// in a hidden frame instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.ready = new Promise((resolve, reject) => {
        this.frame.onload = () => {
          const script = this.frame.contentDocument.createElement("script");
          this.frame.contentWindow.postMessage = (data) => this.receive(data);
          script.src = new URL(url, location.href);
          script.onload = resolve;
          script.onerror = reject;
          this.frame.contentDocument.body.append(script);
        };
      });
      this.frame.srcdoc = "<!doctype html><body></body>";
      document.documentElement.append(this.frame);
    }

    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.onmessage({ data }));
    }

    receive(data) {
      const event = new MessageEvent("message", { data });
      this.onmessage?.(event);
      this.dispatchEvent(event);
    }

    terminate() {
      this.frame.remove();
    }
  };
}
