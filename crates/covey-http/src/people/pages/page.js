// The code of an invitation stands behind the # of its link, which no server is sent. It goes into the form, and out of the
// address, so that it is in no history.
"use strict";
const code = document.getElementById("code");
if (code && location.hash.length > 1) {
  code.querySelector("input").value = location.hash.slice(1);
  code.hidden = true;
  history.replaceState(null, "", location.pathname);
}
