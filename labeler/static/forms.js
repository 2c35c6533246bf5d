// A form drawn from a JSON Schema: a field for each property, its description as help, its default as what it begins with.

class SchemaForm {
  /** `choices`: format -> [{value, name}]; `keep`: called whenever something changes; `kept`: what was entered before. */
  constructor(schema, choices, kept, keep) {
    this.schema = schema;
    this.choices = choices;
    this.fields = new Map();
    const entries = Object.entries(schema.properties);
    const main = entries.filter(([, property]) => "main" in property).sort(([, a], [, b]) => a.main - b.main);
    const others = entries.filter(([, property]) => !("main" in property));
    this.more = make("details", { class: "tr-more" }, make("summary", {}, `More options (${others.length})`),
      make("div", { class: "tr-fields" }, ...others.map((entry) => this.field(...entry, kept))));
    this.root = make("div", { oninput: keep, onchange: keep },
      make("div", { class: "tr-fields" }, ...main.map((entry) => this.field(...entry, kept))), this.more);
    if (others.some(([name]) => kept && name in kept)) this.more.open = true;
  }

  /** Label, control and help of one property. */
  field(name, property, kept) {
    const id = `tr-${this.schema.title}-${name}`;
    const value = kept && name in kept ? kept[name] : property.default;
    const title = name.replaceAll("_", " ");
    const help = make("small", { id: `${id}-help` }, property.description);
    const attributes = { id, "aria-describedby": help.id };
    const control = property.type === "array" ? this.several(title, property, value, attributes) : this.control(property, value, attributes);
    this.fields.set(name, { property, control });
    if (property.type === "array") return make("div", { class: "tr-field" }, control, help);
    const label = make("label", { for: id }, title);
    const tick = control.type === "checkbox";
    return make("div", { class: tick ? "tr-field tr-tick-field" : "tr-field" }, ...(tick ? [control, label] : [label, control]), help);
  }

  /** A box to tick for each that there is to choose from. */
  several(title, property, value, attributes) {
    const boxes = (this.choices[property.format] ?? []).map((one) => make("label", {}, make("input", { type: "checkbox", value: one.value, checked: (value ?? []).includes(one.value) }), one.name));
    return make("fieldset", { ...attributes, class: "tr-several" }, make("legend", {}, title), ...(boxes.length ? boxes : ["none yet"]));
  }

  control(property, value, attributes) {
    const nullable = [property.type].flat().includes("null");
    if (property.type === "boolean") return make("input", { ...attributes, type: "checkbox", checked: value === true });
    const options = this.options(property, nullable);
    if (options) {
      return make("select", attributes, ...options.map((one) => make("option", { value: one.value, selected: one.value === (value ?? "") }, one.name)));
    }
    if ([property.type].flat().some((kind) => kind === "integer" || kind === "number")) {
      const step = [property.type].flat().includes("number") ? "any" : "1";
      return make("input", { ...attributes, type: "number", step, value: value ?? "", placeholder: nullable ? "default" : "", required: !nullable });
    }
    return make("input", { ...attributes, type: "text", value: value ?? "", placeholder: nullable ? "default" : "", maxlength: 1000, spellcheck: "false", autocomplete: "off" });
  }

  /** What there is to choose from, or null. */
  options(property, nullable) {
    const found = property.enum ? property.enum.filter((word) => word !== null).map((word) => ({ value: word, name: word })) : this.choices[property.format];
    if (!found) return null;
    return nullable || !found.length ? [{ value: "", name: found.length ? "default" : "none yet" }, ...found] : found;
  }

  /** The options that differ from their defaults, as the API takes them. */
  values() {
    const found = {};
    for (const [name, { property, control }] of this.fields) {
      const value = valueOf(control, property);
      if (JSON.stringify(value) !== JSON.stringify(property.default ?? null)) found[name] = value;
    }
    return found;
  }

  /** Put values in; those that the form does not have are left out. */
  fill(values) {
    for (const [name, value] of Object.entries(values)) {
      const field = this.fields.get(name);
      if (!field) continue;
      if (field.property.type === "array") for (const box of field.control.querySelectorAll("input")) box.checked = value.includes(box.value);
      else if (field.control.type === "checkbox") field.control.checked = value === true;
      else field.control.value = value;
      if (!("main" in field.property)) this.more.open = true;
    }
  }

  /** Whether the browser finds every value well formed; it shows the first one that is not. */
  valid() {
    for (const { control } of this.fields.values()) {
      if (control.checkValidity()) continue;
      if (this.more.contains(control)) this.more.open = true;
      control.reportValidity();
      return false;
    }
    return true;
  }
}

function valueOf(control, property) {
  if (property.type === "array") return [...control.querySelectorAll(":checked")].map((box) => box.value);
  if (control.type === "checkbox") return control.checked;
  if (control.value === "") return null;
  if ([property.type].flat().some((kind) => kind === "integer" || kind === "number")) return Number(control.value);
  return control.value;
}

/** What puts the focus back where it is now, once that place has been drawn anew; null where there is nothing to find it by. */
function whereFocusIs() {
  const node = document.activeElement;
  const [label, link, part] = [node.getAttribute("aria-label"), node.getAttribute("href"), node.closest("summary") && node.parentNode.dataset.name];
  const selector = (node.id && `#${CSS.escape(node.id)}`) || (label && `[aria-label="${CSS.escape(label)}"]`) || (link && `a[href="${CSS.escape(link)}"]`) ||
    (part && `details[data-name="${CSS.escape(part)}"] > summary`);
  return selector ? () => { if (!node.isConnected) document.querySelector(selector)?.focus({ preventScroll: true }); } : null;
}

/** Whether somebody types or chooses there. */
function isUsed(part) {
  return part.contains(document.activeElement) && document.activeElement.matches("input, select");
}
