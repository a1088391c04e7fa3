// Shows what the server says of the link, as it says it. All words come from the server.
"use strict";

const main = document.querySelector("main");
const lost = document.getElementById("lost");

const set = (id, text) => {
  const element = document.getElementById(id);
  if (element.textContent !== text) element.textContent = text; // an unchanged one is not read out again
};

const show = (view) => {
  set("title", view.title);
  set("text", view.text);
  if (view.qr) document.getElementById("qr").src = view.qr;
  main.dataset.state = view.state;
};

let away; // since when there is no connection: most come back before anybody notices

const connected = () => {
  clearTimeout(away);
  away = undefined;
  lost.hidden = true;
};

const follow = (wait) => {
  const source = new EventSource(main.dataset.events);
  source.addEventListener("open", () => {
    connected();
    wait = 2000;
  });
  source.addEventListener("state", (event) => {
    const view = JSON.parse(event.data);
    show(view);
    if (view.final) {
      source.close();
      connected();
    }
  });
  source.addEventListener("error", () => {
    away ??= setTimeout(() => { lost.hidden = false }, 3000);
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    setTimeout(() => follow(Math.min(wait * 2, 30000)), wait);
  });
};

if (main.dataset.events) follow(2000);
