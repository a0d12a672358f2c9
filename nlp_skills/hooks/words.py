"""Everything the hooks say, in English and in Traditional Chinese (Taiwan).

A table instead of gettext: a hook runs on an interpreter without our packages, in milliseconds.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # importing typing costs a tenth of the start
if TYPE_CHECKING:
    from typing import Any

_TABLE = {
    # data-validation
    "rows": ("{file}: rows {rows}, bad {bad}", "{file}：{rows} 筆，{bad} 筆有問題"),
    "comma": (", ", "，"),
    "detailed": ("{what}: {detail}", "{what}：{detail}"),
    "blank": ("blank lines: {count}", "空行：{count}"),
    "duplicates": ("duplicates: {count}", "重複：{count}"),
    "fault": ("line {line}: {what}", "第 {line} 行：{what}"),
    "fault_at": ("at byte {byte}: {what}", "位元組 {byte} 處：{what}"),
    "more_faults": ("… further findings: {count}", "……另有 {count} 項"),
    "share": ("{label} {count} ({percent})", "{label} {count}（{percent}）"),
    "shares": ("{field}: {shares}", "{field}：{shares}"),
    "more_labels": ("further labels: {count}", "另有 {count} 個標籤"),
    "change": ("change since the last check: {changes}", "與上次檢查相比：{changes}"),
    "row_change": ("rows {before} → {after}", "筆數 {before} → {after}"),
    "bad_change": ("bad {before} → {after}", "有問題 {before} → {after}"),
    "first": ("first check", "首次檢查"),
    "full": ("full check: {command}", "完整檢查：{command}"),
    "too_large": (
        "{file}: changed and unchecked, {size} MB is over the hook's {limit} MB; full check: {command}",
        "{file}：已變更但未檢查（{size} MB 超過 hook 的上限 {limit} MB）；完整檢查：{command}",
    ),
    "glanced": (
        "{file}: {size} MB is over the hook's {limit} MB; only {seen} MB from all over it were checked, "
        "the rest was not: rows {rows}, bad {bad}",
        "{file}：{size} MB 超過 hook 的上限 {limit} MB；只抽查各處共 {seen} MB，其餘未檢查：{rows} 筆，{bad} 筆有問題",
    ),
    "nested": (
        "of the answers, only entities and outer types were checked here; nlp-skills validate checks the schema",
        "此處只檢查答案的實體與外層型別；完整的 schema 由 nlp-skills validate 檢查",
    ),
    "unreadable": ("{file}: cannot be read ({cause})", "{file}：無法讀取（{cause}）"),
    "structure_only": (
        "fields and labels were not checked: task.yaml is newer than what the hook knows of it",
        "未檢查欄位與標籤：task.yaml 比 hook 所知的內容新",
    ),
    "document_unchecked": (
        "{file}: changed and unchecked; nlp-skills doctor tells whether the environment is ready",
        "{file}：已變更但未檢查；nlp-skills doctor 會說明環境是否就緒",
    ),
    "document_errors": ("{file}: errors {count}", "{file}：{count} 項錯誤"),
    "finding": ("{where}: {message}", "{where}：{message}"),
    "mend": ("mend: {mend}", "處理方式：{mend}"),
    "cause": ("cause: {cause}", "原因：{cause}"),
    "cut": ("… {count} more lines left out", "……略去 {count} 行"),
    # codes of rows.check
    "bad_json": ("not valid JSON", "不是有效的 JSON"),
    "bad_utf8": ("not UTF-8", "不是 UTF-8"),
    "bom": ("byte order mark", "含有 BOM"),
    "not_object": ("not a JSON object", "不是 JSON 物件"),
    "nan": ("NaN or infinity", "含有 NaN 或無限大"),
    "missing_field": ("field missing", "缺少欄位"),
    "wrong_type": ("wrong type", "型別不符"),
    "empty_text": ("empty text", "文字為空"),
    "unknown_label": ("label not in task.yaml", "標籤不在 task.yaml 中"),
    "repeated_label": ("label twice in the list", "標籤重複列出"),
    "too_short": ("text too short", "文字過短"),
    "too_long": ("text too long", "文字過長"),
    "entity_shape": ("entity without a text", "實體缺少文字"),
    "entity_missing": ("entity not in the text", "實體不在原文中"),
    "entity_offset": ("start and end do not enclose the entity", "start 與 end 圈選的不是該實體"),
    "entity_repeated": ("entity listed twice", "實體重複列出"),
    "too_long_line": ("line too long", "該行過長"),
    "duplicate": ("duplicate row", "重複的資料"),
    # version-tracking
    "evaluated": ("{version}: evaluated, test rows {rows}", "{version}：已在 {rows} 筆測試資料上評估"),
    "trained": ("{version}: training completed, not evaluated yet", "{version}：訓練完成，尚未評估"),
    "training": ("training", "訓練"),
    "evaluation": ("evaluation", "評估"),
    "regeneration": ("regeneration", "重新產生資料"),
    "goes_on_there": ("{version}: {kind} goes on, on {place}", "{version}：{kind}正在 {place} 上執行"),
    "on_its_way": (
        "{version}: {kind} is on its way to {place} and not running there yet",
        "{version}：{kind}正送往 {place}，尚未開始執行",
    ),
    "not_fetched": (
        "{version}: {kind} has ended on {place}; what it made is not fetched yet",
        "{version}：{kind}已在 {place} 上結束，結果尚未取回",
    ),
    "at_step": ("at step {step} of {total}", "目前第 {step}/{total} 步"),
    "heard": ("last heard of {span} ago", "最後一次取得消息：{span}前"),
    "silent": ("it could not be reached then: {cause}", "當時無法連線：{cause}"),
    "seconds": ("{count} s", "{count} 秒"),
    "minutes": ("{count} min", "{count} 分鐘"),
    "hours": ("{count} h", "{count} 小時"),
    "days": ("{count} d", "{count} 天"),
    "failed": ("{version}: {kind} failed", "{version}：{kind}失敗"),
    "interrupted": ("{version}: {kind} was interrupted", "{version}：{kind}中斷"),
    "died": (
        "{version}: {kind} died; its process is gone and its last state was running",
        "{version}：{kind}異常終止；程序已不存在，但最後狀態仍為執行中",
    ),
    "mend_disk_full": (
        "free some space; what was saved by then is whole",
        "釋出磁碟空間；在此之前儲存的內容都完整",
    ),
    "mend_out_of_memory": (
        "halve batch_size and double gradient_accumulation, or lower max_length",
        "將 batch_size 減半並將 gradient_accumulation 加倍，或降低 max_length",
    ),
    "mend_nan_loss": (
        "lower learning_rate; a tenth of it is a good next try",
        "降低 learning_rate；可先試原本的十分之一",
    ),
    "mend_diverged": (
        "lower learning_rate; a third of it is a good next try",
        "降低 learning_rate；可先試原本的三分之一",
    ),
    "mend_stalled": (
        "read what it waited for with nlp-skills logs, then go on from its checkpoint",
        "用 nlp-skills logs 查看它在等待什麼，再從檢查點繼續",
    ),
    "reached": ("at step {step} of {total}", "停在第 {step}/{total} 步"),
    "loss": ("steps {steps}, last loss {loss}", "{steps} 步，最後 loss {loss}"),
    "interval": ("{name} {value} (95%: {low}–{high})", "{name} {value}(95%:{low}–{high})"),
    "metric": ("{name} {value}", "{name} {value}"),
    "met": ("criterion ≥ {threshold}: met", "成功標準 ≥ {threshold}：達成"),
    "cannot_tell": (
        "criterion ≥ {threshold}: cannot tell from these test rows",
        "成功標準 ≥ {threshold}：以目前的測試資料無法判定",
    ),
    "not_met": ("criterion ≥ {threshold}: not met", "成功標準 ≥ {threshold}：未達成"),
    "no_criterion": ("task.yaml sets no threshold", "task.yaml 未設定門檻"),
    "baseline": ("best baseline {name}: {value}", "最佳基準 {name}：{value}"),
    "baseline_wins": (
        "best baseline {name}: {value}, which this version does not beat",
        "最佳基準 {name}：{value}，此版本未能超越",
    ),
    "parent": (
        "parent {parent} had {name} {value} on the same test rows ({change} points)",
        "前一版 {parent} 在相同測試資料上的 {name} 為 {value}(差 {change} 個百分點)",
    ),
    "parent_other_rows": (
        "parent {parent} had {name} {value}, on other test rows: not comparable",
        "前一版 {parent} 的 {name} 為 {value}，但測試資料不同，無法比較",
    ),
    "no_data": ("{task}: the {verb} command failed", "{task}：{verb} 指令失敗了"),
    "no_run": (
        "the {kind} command failed before it recorded a run",
        "{kind}指令在留下執行紀錄之前就失敗了",
    ),
    "lineage_done": ("lineage.yaml was behind and has been completed", "lineage.yaml 先前未更新，已補齊"),
    "lineage_behind": ("lineage.yaml lacks these results: {command}", "lineage.yaml 缺少這些結果：{command}"),
    "next": ("next command: {command}", "下一個指令：{command}"),
    # who reads on
    "agent": ("the agent {agent} reads these: {facts}", "代理 {agent} 可判讀：{facts}"),
    "fact_task": ("task {name}", "任務 {name}"),
    "fact_version": ("version {name}", "版本 {name}"),
    "fact_parent": ("parent {name}", "前一版 {name}"),
    "fact_reason": ("reason {reason}", "原因代碼 {reason}"),
    "fact_threshold": ("criterion ≥ {value}", "成功標準 ≥ {value}"),
    "fact_rows": ("rows {rows}, bad {bad}", "{rows} 筆，{bad} 筆有問題"),
    "fact_smallest": ("smallest label {label}: {count}", "最少的標籤 {label}：{count} 筆"),
    # greeting
    "tasks": ("tasks: {tasks}", "任務：{tasks}"),
    "semicolon": ("; ", "；"),
    "task": ("{name} {version}, {state}", "{name} {version}，{state}"),
    "task_measured": ("{name} {version}, {state}, {metric}", "{name} {version}，{state}，{metric}"),
    "more_tasks": ("further tasks: {count}", "另有 {count} 個任務"),
    "since": ("since then: {news}", "自上次以來：{news}"),
    "further_news": ("and in so many other versions: {count}", "其他版本還有：{count}"),
    "for_agent": ("for the agent {agent}", "可交給代理 {agent}"),
    "within": ("{what} ({details})", "{what}（{details}）"),
    "going": ("going on: {runs}", "正在進行：{runs}"),
    "going_run": ("{version} {kind}, step {step} of {total}", "{version} {kind}，第 {step}/{total} 步"),
    "calm": (
        "no training or evaluation has ended since this was last told",
        "自上次告知以來，沒有訓練或評估結束",
    ),
    # watcher
    "stalled": (
        "{version}: {kind} has stopped moving; its process is still there",
        "{version}：{kind}已停滯，程序仍在",
    ),
    "unheard": ("no step for {span}", "已有 {span}沒有完成任何一步"),
}


def language(fallback: object = None) -> str:
    """The language in force, by the rule of nlp_skills.i18n; `fallback` (a digest's) when nothing says."""
    for name in ("NLP_SKILLS_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        tag = os.environ.get(name)
        if tag:
            return "zh-TW" if tag.lower().startswith("zh") else "en"
    return "zh-TW" if isinstance(fallback, str) and fallback.lower().startswith("zh") else "en"


def phrase(lang: str, key: str, **values: object) -> str:
    """One phrase of the table, filled in."""
    return _TABLE[key][lang == "zh-TW"].format(**values)


def fault(lang: str, code: object) -> str:
    """A fault code of the row check in words; one this table does not know stays a code."""
    return phrase(lang, code) if isinstance(code, str) and code in _TABLE else str(code)


def percent(value: float) -> str:
    """A fraction as it is shown to people."""
    return f"{value * 100:.1f}%"


def span(lang: str, seconds: float) -> str:
    """A stretch of time, in the unit that suits it."""
    if seconds < 90:
        return phrase(lang, "seconds", count=round(seconds))
    minutes = round(seconds / 60)
    if minutes < 90:
        return phrase(lang, "minutes", count=minutes)
    if minutes < 48 * 60:
        return phrase(lang, "hours", count=round(minutes / 60))
    return phrase(lang, "days", count=round(minutes / 1440))


def seconds(text: Any) -> float | None:
    """An ISO time as seconds since the epoch."""
    import datetime

    try:
        # Python 3.9 and 3.10 do not know the Z.
        return datetime.datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


# Angle brackets could close the tags Claude Code puts around what a hook says.
_BRACKETS = str.maketrans("<>", "‹›")


def clean(text: object, limit: int = 80) -> str:
    """Text from a file on one short line: control characters escaped, tags defused, the rest cut."""
    whole = str(text).translate(_BRACKETS)
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in whole[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
