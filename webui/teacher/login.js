// Signs an educator in.

const error = document.getElementById("error");

document.getElementById("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  error.textContent = "";
  try {
    const answer = await fetch("/api/v1/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token: document.getElementById("token").value }),
    });
    if (answer.ok) location.assign("/");
    else error.textContent = (await answer.json()).error.message;
  } catch {
    error.textContent = "The class computer cannot be reached just now.";
  }
});
document.getElementById("token").focus();
