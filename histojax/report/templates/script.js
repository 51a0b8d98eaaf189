"use strict";
// A cell of the confusion matrix shows and hides its images; those of one cell at a time.
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

// The contents mark the section in view.
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

// Details are unfolded for printing, and folded again.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details.printed:not([open])")];
  for (const details of folded) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of folded) details.open = false;
});
