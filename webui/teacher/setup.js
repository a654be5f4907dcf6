// The first run: name the class, show how students join.

const $ = (id) => document.getElementById(id);

async function call(path, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  const answer = await fetch(path, options);
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error.message);
  return content;
}

async function start() {
  try {
    const [view] = await call("/api/v1/classes");
    $("title").value = view.title;
    $("join-url").textContent = view.join_url;
    $("code").textContent = view.code;
    $("form").addEventListener("submit", async (event) => {
      event.preventDefault();
      $("error").textContent = "";
      try {
        await call("/api/v1/class/change", { class_id: view.class_id, title: $("title").value });
        $("done").textContent = "Saved.";
      } catch (error) {
        $("error").textContent = error.message;
      }
    });
  } catch (error) {
    $("error").textContent = error.message;
  }
}
start();
