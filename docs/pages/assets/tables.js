// Tables wider than the page are scrolled by keyboard too.
addEventListener("load", () => {
  for (const wide of document.querySelectorAll(".md-typeset__scrollwrap, .formula"))
    if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
});
