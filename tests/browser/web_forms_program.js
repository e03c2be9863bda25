// ODK Web Forms, as a person at the screen sees it.

export class WebForms {
  constructor(page) {
    this.page = page;
  }

  async opened() {
    await this.page.locator(".odk-form .question-container").first().waitFor();
  }

  question(label, number = 1) {
    const text = this.page.locator(".control-text label").getByText(label, { exact: true });
    return this.page.locator(".question-container").filter({ has: text }).nth(number - 1);
  }

  async chooseLanguage(name) {
    await this.choose(this.page.locator(".language-changer:visible"), name);
  }

  /** Open a list, choose from it, and wait until it has gone: it fades, and the next one may have the same options. */
  async choose(list, name) {
    await list.click();
    const option = this.page.getByRole("option", { name, exact: true });
    await option.click();
    await option.waitFor({ state: "detached" });
  }

  /** `answer`: a text or number, a choice's label, several of them, a date as {date}, a file as {file}. */
  async answer(label, answer, number = 1) {
    const question = this.question(label, number);
    await question.waitFor();
    if (answer.file) {
      await question.locator("input[type=file]").setInputFiles(answer.file);
    } else if (answer.date) {
      await this.openCalendar(question.locator("input"));
      await this.chooseDay(...answer.date.split("-").map(Number));
    } else if (await question.locator(".value-option").count()) {
      for (const each of [answer].flat()) {
        await question.locator(".value-option").getByText(each, { exact: true }).click();
      }
    } else if (await question.locator(".p-select").count()) {
      await this.choose(question.locator(".p-select"), answer);
    } else {
      const field = question.locator("input, textarea").first();
      await field.click();
      await field.press("Control+a");
      await field.pressSequentially(String(answer));
      await field.press("Tab");
    }
  }

  /** The calendar closes when the page is laid out anew while it opens; a person then presses once more. */
  async openCalendar(field) {
    const years = this.page.locator(".p-datepicker-panel .p-datepicker-select-year");
    for (let attempts = 0; attempts < 3; attempts += 1) {
      await field.click();
      try {
        await years.click({ timeout: 3_000 });
        await this.page.locator(".p-datepicker-decade").waitFor({ timeout: 3_000 });
        return;
      } catch {
        await field.press("Escape");
      }
    }
    throw new Error("the calendar does not open");
  }

  /** In the calendar that shows years: decades, year, month, day. */
  async chooseDay(year, month, day) {
    const calendar = this.page.locator(".p-datepicker-panel");
    const decade = async () => Number((await calendar.locator(".p-datepicker-decade").innerText()).slice(0, 4));
    while ((await decade()) > year) {
      await calendar.locator(".p-datepicker-prev-button").click();
    }
    while ((await decade()) + 9 < year) {
      await calendar.locator(".p-datepicker-next-button").click();
    }
    await calendar.locator(".p-datepicker-year").getByText(String(year), { exact: true }).click();
    await calendar.locator(".p-datepicker-month").nth(month - 1).click();
    const days = calendar.locator(".p-datepicker-day-cell:not(.p-datepicker-other-month) .p-datepicker-day");
    await days.getByText(String(day), { exact: true }).click();
  }

  async addRepeat(label) {
    await this.page.getByRole("button", { name: `Add ${label}`, exact: true }).click();
  }

  async send() {
    await this.page.getByRole("button", { name: "Send", exact: true }).click();
  }

  /** What the program says of a question whose answer it does not take. */
  async refusal(label, number = 1) {
    const message = this.question(label, number).locator(".validation-message");
    await message.waitFor();
    return message.innerText();
  }
}
