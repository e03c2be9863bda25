// A list of the forms that the tablet offers, and the one that was chosen, filled in with ODK Web Forms.
import { OdkWebForm, POST_SUBMIT__NEW_INSTANCE, webFormsPlugin } from "@getodk/web-forms";
import { createApp, h, ref } from "vue";

import { chosen, download, formList, get, submit } from "./openrosa.js";

const forms = ref([]);
const opened = ref(null);
const said = ref("");
const problem = ref("");

async function reported(work) {
  try {
    problem.value = "";
    await work();
  } catch (error) {
    problem.value = error.message;
  }
}

async function open(form) {
  const { xml, files } = await download(form);
  const fetchFormAttachment = async (resource) => {
    const name = decodeURIComponent(resource.pathname.split("/").at(-1));
    return files.has(name) ? get(files.get(name)) : new Response("", { status: 404 });
  };
  opened.value = { id: form.id, xml, fetchFormAttachment };
}

async function send(payload, answered) {
  await reported(async () => {
    const { status, sentence } = await submit(payload.data[0]);
    said.value = `${status}: ${sentence}`;
    // Only what the server has taken makes room for the next questionnaire.
    answered(status === 201 || status === 202 ? { next: POST_SUBMIT__NEW_INSTANCE } : null);
  });
}

function page() {
  const spoken = [
    problem.value && h("p", { role: "alert" }, problem.value),
    said.value && h("p", { role: "status" }, said.value),
  ];
  if (opened.value === null) {
    const offered = forms.value.map((form) =>
      h("li", h("button", { onClick: () => reported(() => open(form)) }, `${form.name} (${form.id}, ${form.version})`)),
    );
    return [...spoken, h("ul", offered)];
  }
  return [
    ...spoken,
    h(OdkWebForm, {
      key: opened.value.id,
      formXml: opened.value.xml,
      fetchFormAttachment: opened.value.fetchFormAttachment,
      trackDevice: true,
      onSubmit: send,
    }),
  ];
}

await reported(async () => {
  forms.value = await formList();
  const wanted = forms.value.find((form) => form.id === chosen.get("form"));
  if (wanted) {
    await open(wanted);
  }
});
createApp({ render: page }).use(webFormsPlugin).mount("#page");
