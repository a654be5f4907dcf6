; The Windows installer: for one user, without administrator rights. packaging/windows/build.py gives the defines.
;
; Flags beside NSIS's own (/S silent, /D=FOLDER last and without quotes):
;   /DESKTOP=0|1  icon on the desktop        without it: as it was; at the first installation 1
;   /LOGIN=0|1    start at sign-in           without it: as it was; at the first installation 0
; The uninstaller: /S keeps the recorded data, /S /DELETEDATA deletes them.
; Exit codes: 0 done, 1 cancelled by the user, 2 the program is running and could not be stopped, or files could not be written.

Target ${TARGET}
SetCompressor ${COMPRESSION}
; The two executables contain the same modules; with a dictionary of this size the second adds almost nothing.
!if "${COMPRESSION}" != "zlib"
  SetCompressorDictSize 64
!endif
ManifestDPIAware true
RequestExecutionLevel user

!include MUI2.nsh
!include FileFunc.nsh
!include LogicLib.nsh
!include nsDialogs.nsh
!include Sections.nsh
!include WinVer.nsh
!include x64.nsh

!define TITLE "Classroom Observer"
!define PROGRAM "classroom-observer.exe"
!define CONSOLE "classroom-observer-cli.exe"
!define UNINSTALL_KEY "Software\Microsoft\Windows\CurrentVersion\Uninstall\${TITLE}"
; The same value as "Start at login" in the program's own menu.
!define RUN_KEY "Software\Microsoft\Windows\CurrentVersion\Run"
!define RUN_COMMAND '"$INSTDIR\${PROGRAM}" run --no-browser'
; Data, configuration and logs are below it.
!define DATA "$LOCALAPPDATA\classroom-observer"

Name "${TITLE}"
Caption "${TITLE} ${VERSION}"
OutFile "${OUT}"
BrandingText " "
InstallDir "$LOCALAPPDATA\Programs\${TITLE}"
InstallDirRegKey HKCU "${UNINSTALL_KEY}" "InstallLocation"
ShowInstDetails nevershow
ShowUninstDetails nevershow

VIProductVersion "${VERSION_NUMBERS}"
VIFileVersion "${VERSION_NUMBERS}"
VIAddVersionKey "ProductName" "${TITLE}"
VIAddVersionKey "ProductVersion" "${VERSION}"
VIAddVersionKey "FileVersion" "${VERSION}"
VIAddVersionKey "FileDescription" "${TITLE} installer"
VIAddVersionKey "CompanyName" "${TITLE}"
VIAddVersionKey "LegalCopyright" "Apache License 2.0"

!define MUI_ICON "${ROOT}/packaging/icons/classroom-observer.ico"
!define MUI_UNICON "${ROOT}/packaging/icons/classroom-observer.ico"
!define MUI_ABORTWARNING
!define MUI_WELCOMEFINISHPAGE_BITMAP "${PICTURE}"

!define MUI_PAGE_HEADER_TEXT "Install ${TITLE}"
!define MUI_PAGE_HEADER_SUBTEXT "See live what your students are doing."
!define MUI_LICENSEPAGE_TEXT_TOP "You may use, share and change this program under these terms."
!define MUI_LICENSEPAGE_BUTTON "&Next >"
!define MUI_LICENSEPAGE_TEXT_BOTTOM "By installing the program you accept them."
!insertmacro MUI_PAGE_LICENSE "${ROOT}/LICENSE"

!define MUI_PAGE_HEADER_TEXT "What to install"
!define MUI_PAGE_HEADER_SUBTEXT "Two things are yours to choose. You can change both later."
!define MUI_COMPONENTSPAGE_NODESC
!define MUI_COMPONENTSPAGE_TEXT_COMPLIST "${TITLE} ${VERSION}:"
!define MUI_COMPONENTSPAGE_TEXT_TOP "It is installed for you alone, and needs no administrator rights."
!insertmacro MUI_PAGE_COMPONENTS

!insertmacro MUI_PAGE_INSTFILES

!define MUI_FINISHPAGE_TITLE "${TITLE} is installed"
!define MUI_FINISHPAGE_TEXT "You find it in the Start menu.$\r$\n$\r$\nAt its first start Windows may ask whether other computers may reach it. Allow it on private networks: otherwise students cannot join."
!define MUI_FINISHPAGE_RUN "$INSTDIR\${PROGRAM}"
!define MUI_FINISHPAGE_RUN_TEXT "Start ${TITLE} now"
!insertmacro MUI_PAGE_FINISH

!define MUI_UNCONFIRMPAGE_TEXT_TOP "${TITLE} is removed from this computer."
!insertmacro MUI_UNPAGE_CONFIRM
UninstPage custom un.DataPage un.DataPageLeave
!insertmacro MUI_UNPAGE_INSTFILES

!insertmacro MUI_LANGUAGE "English"

Var Again
Var DataTick
Var DeleteData

; Stop a copy that runs from the folder: ask it to stop, then check whether its file can be written.
!macro StopProgram un
Function ${un}StopProgram
  ${IfNot} ${FileExists} "$INSTDIR\${PROGRAM}"
    Return
  ${EndIf}
  ${If} ${FileExists} "$INSTDIR\${CONSOLE}"
    DetailPrint "Ending the copy of ${TITLE} that is running ..."
    nsExec::Exec /TIMEOUT=20000 '"$INSTDIR\${CONSOLE}" stop'
    Pop $0
  ${EndIf}
  StrCpy $Again 0
  ${Do}
    ClearErrors
    FileOpen $0 "$INSTDIR\${PROGRAM}" a
    ${IfNot} ${Errors}
      FileClose $0
      Return
    ${EndIf}
    ${If} $Again < 20
      Sleep 250
      IntOp $Again $Again + 1
    ${ElseIf} ${Cmd} `MessageBox MB_RETRYCANCEL|MB_ICONEXCLAMATION "${TITLE} is still running. Choose Quit in its menu in the notification area, or stop it on its dashboard; then choose Retry." /SD IDCANCEL IDRETRY`
      StrCpy $Again 10
    ${Else}
      SetErrorLevel 2
      Quit
    ${EndIf}
  ${Loop}
FunctionEnd
!macroend
!insertmacro StopProgram ""
!insertmacro StopProgram "un."

!macro SetSection section chosen
  ${If} ${chosen} == 1
    !insertmacro SelectSection ${section}
  ${Else}
    !insertmacro UnselectSection ${section}
  ${EndIf}
!macroend

Section "${TITLE}" SectionProgram
  SectionIn RO
  Call StopProgram
  ; Files that only the earlier version has must be removed: Python would still find them.
  RMDir /r "$INSTDIR\_internal"
  ClearErrors
  SetOutPath "$INSTDIR"
  File /r "${SOURCE}/*.*"
  File "/oname=LICENSE.txt" "${ROOT}/LICENSE"
  WriteUninstaller "$INSTDIR\uninstall.exe"
  CreateShortcut "$SMPROGRAMS\${TITLE}.lnk" "$INSTDIR\${PROGRAM}" "" "" 0 SW_SHOWNORMAL "" "See live what your students are doing"
  ${If} ${Errors}
    MessageBox MB_OK|MB_ICONSTOP "Some files could not be written. Is the disk full? Nothing that was recorded is lost; please install again." /SD IDOK
    SetErrorLevel 2
    Quit
  ${EndIf}
  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayName" "${TITLE}"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayIcon" "$INSTDIR\${PROGRAM}"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "Publisher" "${TITLE}"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "UninstallString" '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKCU "${UNINSTALL_KEY}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "EstimatedSize" ${KILOBYTES}
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "NoModify" 1
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "NoRepair" 1
SectionEnd

Section "Icon on the desktop" SectionDesktop
  CreateShortcut "$DESKTOP\${TITLE}.lnk" "$INSTDIR\${PROGRAM}" "" "" 0 SW_SHOWNORMAL "" "See live what your students are doing"
SectionEnd

Section /o "Start when I sign in" SectionLogin
  WriteRegStr HKCU "${RUN_KEY}" "${TITLE}" '${RUN_COMMAND}'
SectionEnd

; Remove what was deselected.
Section -Rest
  ${IfNot} ${SectionIsSelected} ${SectionDesktop}
    Delete "$DESKTOP\${TITLE}.lnk"
  ${EndIf}
  ${IfNot} ${SectionIsSelected} ${SectionLogin}
    DeleteRegValue HKCU "${RUN_KEY}" "${TITLE}"
  ${EndIf}
SectionEnd

Function .onInit
  SetShellVarContext current
  ${IfNot} ${RunningX64}
  ${OrIfNot} ${AtLeastWin10}
    MessageBox MB_OK|MB_ICONSTOP "${TITLE} needs Windows 10 or newer, 64 bit." /SD IDOK
    SetErrorLevel 2
    Quit
  ${EndIf}
  ; Two installers at the same time would overwrite each other's files.
  System::Call 'kernel32::CreateMutexW(p 0, i 0, w "${TITLE} installer") p .r1 ?e'
  Pop $0
  ${If} $0 == 183
    MessageBox MB_OK|MB_ICONINFORMATION "The installer is open already." /SD IDOK
    SetErrorLevel 1
    Quit
  ${EndIf}

  ${GetParameters} $R0
  StrCpy $0 1
  ReadRegStr $1 HKCU "${UNINSTALL_KEY}" "DisplayVersion"
  ${If} $1 != ""
  ${AndIfNot} ${FileExists} "$DESKTOP\${TITLE}.lnk"
    StrCpy $0 0
  ${EndIf}
  ClearErrors
  ${GetOptions} $R0 "/DESKTOP=" $1
  ${IfNot} ${Errors}
    StrCpy $0 $1
  ${EndIf}
  !insertmacro SetSection ${SectionDesktop} $0

  StrCpy $0 0
  ReadRegStr $1 HKCU "${RUN_KEY}" "${TITLE}"
  ${If} $1 != ""
    StrCpy $0 1
  ${EndIf}
  ClearErrors
  ${GetOptions} $R0 "/LOGIN=" $1
  ${IfNot} ${Errors}
    StrCpy $0 $1
  ${EndIf}
  !insertmacro SetSection ${SectionLogin} $0
FunctionEnd

Function un.onInit
  SetShellVarContext current
  StrCpy $DeleteData 0
  ${GetParameters} $R0
  ClearErrors
  ${GetOptions} $R0 "/DELETEDATA" $1
  ${IfNot} ${Errors}
    StrCpy $DeleteData 1
  ${EndIf}
FunctionEnd

Function un.DataPage
  ${IfNot} ${FileExists} "${DATA}\*.*"
    Abort
  ${EndIf}
  !insertmacro MUI_HEADER_TEXT "What was recorded" "Students' work, class lists and settings can stay on this computer."
  SendMessage $HWNDPARENT ${WM_SETTEXT} 0 "STR:${TITLE}: What was recorded"
  nsDialogs::Create 1018
  Pop $0
  ${NSD_CreateLabel} 0 0 100% 36u "They are in this folder:$\r$\n$\r$\n${DATA}"
  Pop $0
  ${NSD_CreateLabel} 0 42u 100% 24u "If they stay, they are there again when you install the program another time. What another folder holds, if you chose one, stays in any case."
  Pop $0
  ${NSD_CreateCheckbox} 0 74u 100% 12u "&Delete all of it now. It cannot be brought back."
  Pop $DataTick
  nsDialogs::Show
FunctionEnd

Function un.DataPageLeave
  ${NSD_GetState} $DataTick $DeleteData
FunctionEnd

Section "Uninstall"
  Call un.StopProgram
  Delete "$SMPROGRAMS\${TITLE}.lnk"
  Delete "$DESKTOP\${TITLE}.lnk"
  ; Keep the start at sign-in of another copy, such as the portable one.
  ReadRegStr $0 HKCU "${RUN_KEY}" "${TITLE}"
  StrLen $1 '"$INSTDIR\'
  StrCpy $2 $0 $1
  ${If} $2 == '"$INSTDIR\'
    DeleteRegValue HKCU "${RUN_KEY}" "${TITLE}"
  ${EndIf}
  Delete "$INSTDIR\${PROGRAM}"
  Delete "$INSTDIR\${CONSOLE}"
  Delete "$INSTDIR\LICENSE.txt"
  Delete "$INSTDIR\uninstall.exe"
  RMDir /r "$INSTDIR\_internal"
  ; Only if nothing else is in it.
  RMDir "$INSTDIR"
  DeleteRegKey HKCU "${UNINSTALL_KEY}"
  ${If} $DeleteData == 1
    RMDir /r "${DATA}"
  ${EndIf}
SectionEnd
