// Before the page is laid out: styles for readers without scripts no longer hold.
document.documentElement.classList.add("scripted");
