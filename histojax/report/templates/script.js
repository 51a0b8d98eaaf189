"use strict";
// A cell of the confusion matrix opens its images, and closes them again; one at a time.
for (const button of document.querySelectorAll(".confusion button")) {
  button.addEventListener("click", () => {
    const opens = button.getAttribute("aria-expanded") === "false";
    for (const other of document.querySelectorAll(".confusion button")) {
      const expanded = other === button && opens;
      other.setAttribute("aria-expanded", String(expanded));
      document.getElementById(other.getAttribute("aria-controls")).hidden = !expanded;
    }
    if (opens) {
      document.getElementById(button.getAttribute("aria-controls")).scrollIntoView({ block: "nearest" });
    }
  });
}

// The contents show where one is.
const links = new Map();
for (const link of document.querySelectorAll("nav a")) {
  links.set(document.querySelector(link.getAttribute("href")), link);
}
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) {
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target).setAttribute("aria-current", "true");
    }
  }
}, { rootMargin: "-20% 0px -70% 0px" });
for (const section of links.keys()) watcher.observe(section);

// On paper, what is folded in is unfolded.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details.printed:not([open])")];
  for (const each of folded) each.open = true;
});
addEventListener("afterprint", () => {
  for (const each of folded) each.open = false;
});
