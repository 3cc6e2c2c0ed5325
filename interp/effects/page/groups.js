/* Groups of nodes: their list, where they are renamed, the field of a node that puts it into one, and the file that
 * keeps them. */

import { element, titled } from "./elements.js";
import { byId, data, kindOf, links, metadata } from "./graph.js";
import { answerWord } from "./links.js";
import { strengthSlider } from "./live.js";
import { groupsAsList, move, state } from "./state.js";
import { signed, sumOf } from "./words.js";

export function groupField(node) {
  const name = state.groups.get(node.node_id) ?? [...state.groups.values()].at(-1) ?? "";
  const look = { type: "text", "aria-label": "name of the group", size: 18, placeholder: "group", value: name };
  const field = element("input", look);
  const put = () => move([node.node_id], field.value.trim());
  return element("p", {}, field, " ", element("button", { onclick: put }, "put in group"));
}

/** Groups, with what each contributes directly to the answer. A group renamed to another's name joins it; one without a
 * name is dissolved. */
export function groupList() {
  const rows = groupsAsList().map(([name, ...ids]) => {
    const out = links.filter((link) => ids.includes(link.source) && link.target === state.answer);
    const rename = () => move(ids, field.value.trim());
    const field = element("textarea", { "aria-label": "name of the group", rows: 1, onchange: rename }, name);
    const latents = ids.filter((id) => kindOf(byId.get(id)) === "latent");
    const sum = sumOf(out, ({ weight }) => weight);
    return [element("span", {}, field, ...strengthSlider("all", latents)), String(ids.length), signed(sum)];
  });
  const save = element("button", { onclick: download }, "save graph and groups");
  const list = titled("groups", ["group", "nodes", `to\u00a0${answerWord()}`], rows, "h2");
  return rows.length ? [...list, element("p", {}, save)] : [];
}

function download() {
  const supernodes = groupsAsList();
  const qParams = { ...data.graph.qParams, supernodes, pinnedIds: supernodes.flatMap(([, ...ids]) => ids) };
  const content = { ...data.graph, qParams };
  const link = element("a", { download: `${metadata.slug}.json` });
  link.href = URL.createObjectURL(new Blob([JSON.stringify(content)], { type: "application/json" }));
  link.click();
  URL.revokeObjectURL(link.href);
}
